//! Wrong options, wrong configuration, wrong places.

use std::fs;

use crate::support::done;
use crate::support::node::Node;
use crate::traces::{fails, is_clean};

#[test]
fn unknown_options() {
    let node = Node::new();
    for (words, code) in [
        (&["run", "--nosuch", "image"][..], 125),
        (&["--plain-http", "run", "--net", "bridge", "image"], 125),
        (&["run"], 125),
        (&["images", "--nosuch"], 2),
        (&["nosuch"], 2),
        (&["mount", "image"], 2),
    ] {
        let failed = done(&node.command(words));
        assert_eq!(failed.code, code, "{words:?}: {failed:?}");
        assert!(failed.err.contains("--help"), "{failed:?}");
        assert!(!node.root().exists(), "{words:?}");
    }
    assert_eq!(done(&node.command(["run", "--help"])).code, 0);
}

#[test]
fn wrong_values() {
    let node = Node::new();
    for (flag, value) in [
        ("--memory", "1x"),
        ("--memory", "1024"),
        ("--cpus", "1000000"),
        ("-v", "relative:/x"),
        ("--tmpfs", "relative"),
        ("-e", "=1"),
        ("--cap-add", "FLY"),
        ("--hostname", "a b"),
        ("--stop-signal", "NONE"),
        ("--name", "../x"),
    ] {
        let failed = fails(
            &node,
            &["run", flag, value, "oci:/nonexistent", "true"],
            125,
        );
        let value = value.trim_start_matches('=');
        assert!(failed.err.contains(value), "{flag} {value}: {failed:?}");
        is_clean(&node);
    }
}

#[test]
fn roots_that_are_none() {
    let node = Node::new();
    fs::write(node.root(), "").unwrap();
    let root = node.root().display().to_string();
    for (words, code) in [
        (&["run", "image", "true"][..], 125),
        (&["ps"], 1),
        (&["images"], 1),
        (&["pull", "image"], 1),
    ] {
        let failed = fails(&node, words, code);
        assert!(
            failed.err.contains(&root) && failed.err.contains("--root"),
            "{failed:?}"
        );
    }
    fs::remove_file(node.root()).unwrap();
}

#[test]
fn mistakes_in_the_configuration_are_named_by_line() {
    let node = Node::new();
    let file = node.path("bad.toml");
    fs::write(&file, "[cache]\nbudgte = 1\n").unwrap();
    let path = file.to_str().unwrap();
    for (words, code) in [
        (&["run", "--config", path, "image", "true"][..], 125),
        (&["--config", path, "images"], 1),
        (&["--config", path, "index", "push", "image"], 1),
    ] {
        let failed = fails(&node, words, code);
        for word in [path, "line 2", "budgte"] {
            assert!(failed.err.contains(word), "{word}: {failed:?}");
        }
        assert!(!node.root().exists());
    }
    let missing = fails(&node, &["--config", "/nonexistent.toml", "images"], 1);
    assert!(missing.err.contains("/nonexistent.toml"), "{missing:?}");
    assert_eq!(
        missing.err.matches("No such file").count(),
        1,
        "{missing:?}"
    );
}

#[test]
fn check_config_says_what_is_wrong_and_starts_nothing() {
    let node = Node::new();
    let (file, missing) = (node.path("c.toml"), node.path("missing.pem"));
    let path = file.to_str().unwrap();
    let check = ["--config", path, "daemon", "--check-config"];
    fs::write(&file, "[fetch]\nbackground = \"off\"\n").unwrap();
    let fine = done(&node.command(check));
    assert_eq!((fine.code, fine.err.as_str()), (0, ""), "{fine:?}");
    assert!(fine.out.contains(path), "{fine:?}");

    fs::write(&file, "[metrics]\naddress = \"0.0.0.0:80\"\n").unwrap();
    let wrong = fails(&node, &check, 1);
    for word in [path, "line 2", "metrics.address", "127.0.0.1", "hint:"] {
        assert!(wrong.err.contains(word), "{word}: {wrong:?}");
    }
    let text = format!("[registry]\nca_files = [\"{}\"]\n", missing.display());
    fs::write(&file, text).unwrap();
    let wrong = fails(&node, &check, 1);
    for word in [
        path,
        "registry.ca_files",
        missing.to_str().unwrap(),
        "hint:",
    ] {
        assert!(wrong.err.contains(word), "{word}: {wrong:?}");
    }
    assert!(!node.root().exists());
}

#[test]
fn mount_points() {
    let node = Node::new();
    let image = format!(
        "oci:{}:latest",
        crate::support::images::layout("zoo").display()
    );
    let full = node.directory("full");
    fs::write(full.join("file"), "").unwrap();
    fs::write(node.path("file"), "").unwrap();
    for (name, said) in [
        ("missing", "No such file"),
        ("full", "not empty"),
        ("file", "Not a directory"),
    ] {
        let place = node.path(name).display().to_string();
        let failed = fails(&node, &["mount", &image, &place], 1);
        for word in [place.as_str(), said, "hint:"] {
            assert!(failed.err.contains(word), "{word}: {failed:?}");
        }
        let failed = fails(&node, &["umount", &place], 1);
        assert!(failed.err.contains(&place), "{failed:?}");
        is_clean(&node);
    }
    // One that is named from where the user is.
    node.directory("here");
    let mut mount = node.command(["mount", image.as_str(), "here"]);
    crate::support::run(mount.current_dir(node.path("")));
    assert!(node.path("here/zoo/small").exists());
    let again = fails(
        &node,
        &["mount", &image, node.path("here").to_str().unwrap()],
        1,
    );
    assert!(again.err.contains("not empty"), "{again:?}");
    node.brisk(&["umount", node.path("here").to_str().unwrap()]);
    is_clean(&node);
}
