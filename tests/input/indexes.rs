//! Indexes that cannot be used never stop a start.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use crate::support::images;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::{done, text};

/// Attaches indexes to the lab's image; gives the file of the registry that holds them.
fn attached(lab: &Lab) -> PathBuf {
    let publisher = Node::new();
    let output = publisher.brisk(&["index", "push", &lab.image]);
    let said = text(&output.stdout);
    let artifact = said
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .unwrap();
    let manifest = fs::read(lab.registry.blob_file(artifact)).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    lab.registry
        .blob_file(manifest["layers"][0]["digest"].as_str().unwrap())
}

#[test]
fn damaged_indexes_are_named_and_not_used() {
    let lab = Lab::unindexed("zoo");
    let file = attached(&lab);
    let whole = fs::read(&file).unwrap();
    // What is needed before the mount is in the first third.
    for step in [300, 1000, 5000] {
        let mut bytes = whole.clone();
        bytes[..whole.len() / 3]
            .iter_mut()
            .step_by(step)
            .for_each(|byte| *byte ^= 0x55);
        fs::write(&file, bytes).unwrap();
        let node = Node::new();
        let run = done(&node.command(["run", "--rm", &lab.image]));
        assert_eq!((run.code, run.out.as_str()), (0, "READY zoo\n"), "{run:?}");
        assert!(run.err.contains("no usable index"), "{run:?}");
        let inspected = node.inspect(&lab.image);
        let layers = inspected["layers"].as_array().unwrap();
        let refused: Vec<_> = layers
            .iter()
            .filter(|layer| layer["reason"].is_string())
            .collect();
        assert!(!refused.is_empty(), "{inspected:#}");
        for layer in refused {
            assert!(
                run.err.contains(layer["digest"].as_str().unwrap()),
                "{run:?}"
            );
            assert_eq!(layer["index"]["source"], "built", "{inspected:#}");
        }
    }
}

#[test]
fn indexes_that_are_gone_or_cut_are_done_without() {
    let lab = Lab::unindexed("zoo");
    let file = attached(&lab);
    let whole = fs::read(&file).unwrap();
    let starts = || {
        let node = Node::new();
        let run = done(&node.command(["run", "--rm", &lab.image]));
        assert_eq!((run.code, run.out.as_str()), (0, "READY zoo\n"), "{run:?}");
        assert!(run.err.contains("index"), "{run:?}");
    };
    fs::write(&file, &whole[..100]).unwrap();
    starts();
    fs::write(&file, b"").unwrap();
    starts();
    fs::remove_file(&file).unwrap();
    starts();
}

#[test]
fn files_that_are_no_index_are_refused() {
    let node = Node::new();
    let file = node.path("file.index");
    for content in [&b""[..], b"no index", &[0; 4096]] {
        fs::write(&file, content).unwrap();
        for verb in ["inspect", "verify"] {
            let failed = done(&node.command(["index", verb, file.to_str().unwrap()]));
            assert_eq!(failed.code, 1, "{verb}: {failed:?}");
            assert!(failed.err.contains("file.index"), "{verb}: {failed:?}");
            assert!(failed.err.contains("hint:"), "{verb}: {failed:?}");
        }
    }
}

#[test]
fn an_unreadable_local_index_is_named() {
    let node = Node::new();
    let image = format!("oci:{}:latest", images::layout("zoo").display());
    node.brisk(&["index", "build", &image]);
    let index = fs::read_dir(node.root().join("indexes/trusted"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "index"))
        .unwrap();
    let mut bytes = fs::read(&index).unwrap();
    bytes[0] ^= 0xff;
    fs::write(&index, bytes).unwrap();

    let inspected = node.inspect(&image);
    let named = inspected["layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|layer| layer["reason"].as_str())
        .any(|reason| reason.contains(index.to_str().unwrap()));
    assert!(named, "{inspected:#}");
    let run = done(&node.command(["run", "--rm", &image]));
    assert_eq!((run.code, run.out.as_str()), (0, "READY zoo\n"), "{run:?}");
    assert!(run.err.contains(index.to_str().unwrap()), "{run:?}");
}

#[test]
fn an_index_is_written_through_devices_and_links() {
    let node = Node::new();
    let blobs = images::layout("zoo").join("blobs/sha256");
    let layer = fs::read_dir(blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let (link, target) = (node.path("link"), node.path("target"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    fs::write(&target, b"old").unwrap();
    let device = node.path("device");
    let null = nix::sys::stat::makedev(1, 3);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::sys::stat::mknod(&device, nix::sys::stat::SFlag::S_IFCHR, mode, null).unwrap();
    for output in [&link, &device] {
        let layer = layer.to_str().unwrap();
        node.brisk(&["index", "build", layer, "-o", output.to_str().unwrap()]);
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read(&target).unwrap().starts_with(b"BRISKIDX"));
    assert!(fs::metadata(&device).unwrap().file_type().is_char_device());
}

/// A local index of the zoo's largest layer, and an image that needs it.
fn built() -> (Node, String, PathBuf) {
    let node = Node::new();
    let image = format!("oci:{}:latest", images::layout("zoo").display());
    node.brisk(&["index", "build", &image]);
    let index = fs::read_dir(node.root().join("indexes/trusted"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    (node, image, index)
}

/// Starts, and finds the file named on stderr and in `inspect`, and replaced.
fn starts_without(node: &Node, image: &str, index: &std::path::Path) {
    let run = done(&node.command(["run", "--rm", image]));
    assert_eq!((run.code, run.out.as_str()), (0, "READY zoo\n"), "{run:?}");
    let name = index.to_str().unwrap();
    assert!(run.err.contains(name), "{run:?}");
    let inspected = node.inspect(image);
    let layers = inspected["layers"].as_array().unwrap();
    let reasons = layers.iter().filter_map(|layer| layer["reason"].as_str());
    assert_eq!(
        reasons.filter(|reason| reason.contains(name)).count(),
        1,
        "{inspected:#}"
    );
}

#[test]
fn a_local_index_that_is_damaged_anywhere_is_named_and_built_again() {
    let (node, image, index) = built();
    let whole = fs::read(&index).unwrap();
    let other = fs::read_dir(index.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| *path != index && path.extension().is_some_and(|e| e == "index"))
        .unwrap();
    let at = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        bytes
    };
    for (what, bytes) in [
        ("the header", at(100)),
        ("a quarter", at(whole.len() / 4)),
        ("the middle", at(whole.len() / 2)),
        ("the end", at(whole.len() - 50)),
        ("nothing", Vec::new()),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("another layer's", fs::read(other).unwrap()),
    ] {
        // By another name first: a mount may have the file mapped.
        let new = node.path("new.index");
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, &index).unwrap();
        starts_without(&node, &image, &index);
        assert_eq!(fs::read(&index).unwrap().len(), whole.len(), "{what}");
    }
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    starts_without(&node, &image, &index);
}

#[test]
fn a_damaged_merged_index_is_made_again_without_the_registry() {
    let lab = Lab::unindexed("zoo");
    assert_eq!(lab.run(&[], &[]).out, "READY zoo\n");
    lab.node.brisk(&["service-stop", "--unmount"]);
    let merged = fs::read_dir(lab.node.root().join("indexes/merged"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .next()
        .unwrap();
    let mut bytes = fs::read(&merged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&merged, &bytes).unwrap();
    let Lab {
        node,
        registry,
        image,
    } = lab;
    drop(registry);
    let run = done(&node.command(["run", "--rm", &image]));
    assert_eq!((run.code, run.out.as_str()), (0, "READY zoo\n"), "{run:?}");
    assert_ne!(fs::read(&merged).unwrap(), bytes);
}

#[test]
fn a_damaged_copy_of_an_attached_index_is_named_and_fetched_again() {
    let lab = Lab::new("zoo");
    let off = ["--background", "off"];
    assert_eq!(lab.run(&off, &["true"]).code, 0);
    lab.node.brisk(&["service-stop", "--unmount"]);
    let untrusted = lab.node.root().join("indexes/untrusted");
    let index = fs::read_dir(untrusted)
        .unwrap()
        .flat_map(|owner| fs::read_dir(owner.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "index"))
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&index).unwrap();
    let place = bytes.len() / 3;
    bytes[place] ^= 0x55;
    fs::write(&index, &bytes).unwrap();
    let run = lab.run(&off, &[]);
    assert_eq!((run.code, run.out.as_str()), (0, "READY zoo\n"), "{run:?}");
    assert!(run.err.contains(index.to_str().unwrap()), "{run:?}");
    assert_ne!(fs::read(&index).unwrap(), bytes);
}
