//! Layers that are much longer than they look.

use crate::support::crafted::{GZIP, Layout, ZSTD, digest, gzip, tar_of};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::traces::{fails, fails_everywhere, has_trusted_index};

const CONFIG: &str = "[limits]\nlayer_size = \"1MiB\"";

/// What the refusal says, besides the name of layer or file.
const SAID: [&str; 4] = ["limit of 1048576 bytes", "hint:", "layer_size", "[limits]"];

#[test]
fn a_layer_longer_than_allowed_is_refused_and_leaves_nothing() {
    let tar = tar_of(b"zeros", tar::EntryType::Regular, b"", &vec![0; 8 << 20]);
    let layers = [
        (gzip(&tar), GZIP),
        (zstd::bulk::compress(&tar, 3).unwrap(), ZSTD),
    ];
    for (layer, media_type) in layers {
        assert!(layer.len() < 100_000);
        let node = Node::with_config(CONFIG);
        let directory = node.directory("layout");
        let image = Layout {
            directory: &directory,
        }
        .image(&layer, media_type, &digest(&tar));
        let name = digest(&layer);
        let words: Vec<&str> = SAID.into_iter().chain([name.as_str()]).collect();
        fails_everywhere(&node, &image, &words);
        assert_eq!(node.status()["cache_bytes"], 0);
        assert!(!has_trusted_index(&node, &name));

        // From a file and for an image, without the service.
        let (file, index) = (node.path("layer"), node.path("layer.index"));
        std::fs::write(&file, &layer).unwrap();
        let built = fails(&node, &["index", "build", file.to_str().unwrap()], 1);
        for word in SAID.into_iter().chain(["/layer: "]) {
            assert!(built.err.contains(word), "{word}: {built:?}");
        }
        assert!(!index.exists());
        let built = fails(&node, &["index", "build", &image], 1);
        for word in &words {
            assert!(built.err.contains(word), "{word}: {built:?}");
        }
        assert!(!has_trusted_index(&node, &name));

        // The same layer where it is allowed.
        let node = Node::new();
        assert!(node.mount(&[&image], "tree").join("zeros").exists());
    }
}

#[test]
fn an_attached_index_does_not_get_a_layer_past_the_limit() {
    let lab = Lab::new("zoo");
    let node = Node::with_config("[limits]\nlayer_size = \"1kB\"");
    let inspected = node.inspect(&lab.image);
    for layer in inspected["layers"].as_array().unwrap() {
        assert_eq!(layer["lazy"], false, "{layer}");
        let reason = layer["reason"].as_str().unwrap();
        assert!(reason.contains("limit of 1000"), "{layer}");
    }
    fails_everywhere(&node, &lab.image, &["limit of 1000", "layer_size"]);
}
