//! A machine that cannot do what is asked.

use std::process::Command;

use crate::support::node::Node;
use crate::support::{done, images};
use crate::traces::{fails, is_clean};

fn image() -> String {
    format!("oci:{}:latest", images::layout("zoo").display())
}

/// The command, run by another program.
fn through(program: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(program[0]);
    wrapped
        .args(&program[1..])
        .arg(command.get_program())
        .args(command.get_args());
    wrapped
}

#[test]
fn who_is_not_root_is_told_so() {
    let node = Node::new();
    // Somewhere that everybody can read and execute.
    let program = node.path("brisk");
    std::fs::copy(env!("CARGO_BIN_EXE_brisk"), &program).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(program.parent().unwrap(), permissions).unwrap();
    let nobody = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    for (words, code) in [
        (&["run", "image", "true"][..], 125),
        (&["mount", "image", "/tmp"], 1),
        (&["ps"], 1),
        (&["images"], 1),
        (&["exec", "x", "true"], 1),
    ] {
        let root = node.root();
        let mut command = Command::new(nobody[0]);
        command
            .args(&nobody[1..])
            .arg(&program)
            .arg("--root")
            .arg(&root)
            .args(words);
        let failed = done(&command);
        assert_eq!(failed.code, code, "{words:?}: {failed:?}");
        assert!(
            failed.err.contains("root") && failed.err.contains("hint:"),
            "{failed:?}"
        );
        assert!(!root.exists());
    }
    let mut help = Command::new(nobody[0]);
    assert_eq!(
        done(help.args(&nobody[1..]).arg(&program).arg("--help")).code,
        0
    );
}

#[test]
fn without_fuse_the_message_says_so() {
    let node = Node::new();
    let image = image();
    let script = "mount --bind /dev/null /dev/fuse; exec \"$@\"";
    let without = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let place = node.directory("place");
    for (words, code) in [
        (&["run", &image, "true"][..], 125),
        (&["mount", &image, place.to_str().unwrap()], 1),
    ] {
        let failed = done(&through(&without, &node.command(words)));
        assert_eq!(failed.code, code, "{failed:?}");
        for word in ["FUSE", "/dev/fuse", "hint:"] {
            assert!(failed.err.contains(word), "{word}: {failed:?}");
        }
        is_clean(&node);
    }
}

#[test]
fn a_full_disk_is_no_error_to_readers() {
    let node = Node::new();
    // Room for the indexes and little more; the image has 12 MB.
    std::fs::create_dir_all(node.root()).unwrap();
    crate::support::run(
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "none"])
            .arg(node.root()),
    );
    let script = "cat /zoo/random /zoo/large | wc -c";
    let read = done(&node.command(["run", "--rm", &image(), "sh", "-c", script]));
    assert_eq!((read.code, read.out.as_str()), (0, "9000000\n"), "{read:?}");
}

/// A file system in memory with that much room, at a directory of the node.
fn little_room(node: &Node, name: &str, size: &str) -> std::path::PathBuf {
    let place = node.directory(name);
    let option = format!("size={size}");
    crate::support::run(
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", &option, "none"])
            .arg(&place),
    );
    place
}

/// Files below a directory, but for empty ones.
fn files_below(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.len() > 0 {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn a_disk_too_full_for_an_index_is_named_and_left_as_it_was() {
    let node = Node::new();
    let layers = images::layer_blobs("zoo");
    let largest = layers
        .iter()
        .max_by_key(|(_, file)| file.metadata().unwrap().len());
    let layer = largest.unwrap().1.to_str().unwrap();
    let place = little_room(&node, "place", "16k");
    let output = place.join("the.index");
    std::fs::write(&output, b"what was there").unwrap();
    let words = ["index", "build", "-o", output.to_str().unwrap(), layer];
    let failed = fails(&node, &words, 1);
    for word in ["the.index", "No space left", "hint:"] {
        assert!(failed.err.contains(word), "{word}: {failed:?}");
    }
    assert_eq!(std::fs::read(&output).unwrap(), b"what was there");
    assert_eq!(files_below(&place), [output]);

    // Room for the documents of the image, and not for its indexes.
    let root = little_room(&node, "root", "64k");
    let failed = fails(&node, &["index", "build", &image()], 1);
    assert!(failed.err.contains("No space left"), "{failed:?}");
    assert!(failed.err.contains(root.to_str().unwrap()), "{failed:?}");
    for file in files_below(&root.join("indexes")) {
        // What is there is whole.
        let words = ["index", "inspect", file.to_str().unwrap()];
        node.brisk(&words);
    }
}
