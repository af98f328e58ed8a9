//! What other programs rely on in the command line.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::{done, images};
use crate::traces::is_clean;

/// The command without any option but those given here: the node's come before the verb.
fn bare(words: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_brisk"));
    command.args(words).stdin(std::process::Stdio::null());
    command
}

#[test]
fn global_options_go_before_and_after_every_verb() {
    let node = Node::new();
    let config = node.path("empty.toml");
    std::fs::write(&config, "").unwrap();
    let root = node.root();
    let global = [
        ["--root", root.to_str().unwrap()],
        ["--config", config.to_str().unwrap()],
        ["--log-level", "error"],
        ["--log-format", "json"],
    ]
    .concat();
    let global = [&global[..], &["--plain-http"]].concat();
    let image = format!("oci:{}:latest", images::layout("zoo").display());
    for verb in [
        &["inspect", "--json", &image][..],
        &["status", "--json"],
        &["images"],
        &["ps"],
        &["index", "build", &image],
    ] {
        let (before, after) = ([&global[..], verb].concat(), [verb, &global[..]].concat());
        for words in [before, after] {
            let ended = done(&bare(&words));
            assert_eq!(ended.code, 0, "{words:?}: {ended:?}");
            assert!(root.exists(), "{words:?}");
        }
    }
    // Behind the reference, everything is the program's.
    let words = [
        &["run", "--rm"],
        &global[..],
        &[&image, "echo", "--root", "x"],
    ]
    .concat();
    let ran = done(&bare(&words));
    assert_eq!((ran.code, ran.out.as_str()), (0, "--root x\n"), "{ran:?}");
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn inspect_has_its_keys() {
    let lab = Lab::new("zoo");
    for image in [
        lab.image.clone(),
        format!("oci:{}:latest", images::layout("zoo").display()),
    ] {
        let inspected = lab.node.inspect(&image);
        let top = ["digest", "layers", "platform", "reference"];
        assert_eq!(keys(&inspected), BTreeSet::from(top));
        assert_eq!(inspected["platform"], "linux/amd64");
        let layers = inspected["layers"].as_array().unwrap();
        assert!(!layers.is_empty());
        for layer in layers {
            let of_layer = [
                "bytes_present",
                "digest",
                "index",
                "lazy",
                "media_type",
                "reason",
                "size",
                "uncompressed_size",
            ];
            assert_eq!(keys(layer), BTreeSet::from(of_layer));
            assert!(layer["size"].is_u64() && layer["bytes_present"].is_u64());
            match layer["lazy"].as_bool().unwrap() {
                true => {
                    let of_index = BTreeSet::from(["digest", "source", "trust"]);
                    assert_eq!(keys(&layer["index"]), of_index);
                }
                false => assert!(layer["reason"].is_string(), "{layer}"),
            }
        }
    }
}

#[test]
fn exit_codes_tell_brisk_from_the_program() {
    let node = Node::new();
    let image = format!("oci:{}:latest", images::layout("zoo").display());
    for (program, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 42"], 42),
        (&["/zoo/small"], 126),
        (&["no-such-program"], 127),
    ] {
        let ended = done(&node.command([&["run", "--rm", &image], program].concat()));
        assert_eq!(ended.code, code, "{program:?}: {ended:?}");
    }
    let missing = image.replace(":latest", ":nosuch");
    assert_eq!(done(&node.command(["run", &missing, "true"])).code, 125);
    is_clean(&node);
}
