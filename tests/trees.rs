//! The mounted tree equals what an unpacker makes of the same image: every kind of image, lazily
//! and pulled whole, from a registry and from a layout directory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::images;
use support::node::Node;
use support::registry::DockerRegistry;
use support::tree::{Seen, assert_equal, walk};

/// What the tree of an image must be, by the unpacked gzip image of the same tars.
struct Expected {
    directories: std::collections::BTreeSet<PathBuf>,
    tree: BTreeMap<PathBuf, Seen>,
}

impl Expected {
    fn of(gzip_twin: &str) -> Self {
        let directories = images::named_directories(gzip_twin);
        let tree = walk(&images::unpacked(gzip_twin), &directories);
        assert!(tree.len() > 300, "{gzip_twin} is too small to say anything");
        Expected { directories, tree }
    }

    fn assert_mounted_at(&self, directory: &Path) {
        assert_equal(&self.tree, &walk(directory, &self.directories));
    }
}

/// Nothing is hidden by the mount, and nothing arrives unasked.
const BARE: [&str; 4] = ["--suid", "--dev", "--background", "off"];

fn mount(node: &Node, reference: &str, name: &str) -> PathBuf {
    let arguments: Vec<&str> = BARE.into_iter().chain([reference]).collect();
    node.mount(&arguments, name)
}

/// The layers of the only mount.
fn mounted_layers(node: &Node) -> Vec<Value> {
    let status = node.status();
    assert_eq!(status["mounts"].as_array().unwrap().len(), 1, "{status}");
    status["mounts"][0]["layers"].as_array().unwrap().clone()
}

fn assert_lazy_by_referrer(layers: &[Value]) {
    assert!(!layers.is_empty());
    for layer in layers {
        assert_eq!(layer["lazy"], true, "{layer}");
        assert_eq!(layer["index"]["source"], "referrer", "{layer}");
        assert_eq!(layer["index"]["trust"], "unclosed", "{layer}");
        assert_eq!(layer["reason"], Value::Null, "{layer}");
    }
}

/// Pushes an image and its indexes, mounts it on an empty node, compares.
fn lazy(image: &str, gzip_twin: &str) {
    let expected = Expected::of(gzip_twin);
    let registry = DockerRegistry::start();
    let reference = registry.push(image, "lazy/image");
    Node::new().brisk(&["index", "push", &reference]);

    let node = Node::new();
    let before = node.inspect(&reference);
    assert_lazy_by_referrer(before["layers"].as_array().unwrap());
    let directory = mount(&node, &reference, "mounted");
    let layers = mounted_layers(&node);
    assert_lazy_by_referrer(&layers);
    for layer in &layers {
        assert_eq!(
            layer["bytes_present"], 0,
            "fetched before anything was read: {layer}"
        );
    }

    expected.assert_mounted_at(&directory);
    let status = node.status();
    let counters = &status["counters"];
    assert_eq!(counters["background_bytes"], 0, "{status}");
    assert!(counters["demand_bytes"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(counters["verification_failures"], 0, "{status}");
    assert_eq!(counters["waiting_reads"], 0, "{status}");
    node.brisk(&["umount", directory.to_str().unwrap()]);
}

/// Without an index the image is pulled whole, once; later mounts need no registry.
fn whole(image: &str, gzip_twin: &str) {
    let expected = Expected::of(gzip_twin);
    let mut registry = DockerRegistry::start();
    let reference = registry.push(image, "whole/image");
    let node = Node::new();
    let before = node.inspect(&reference);
    for layer in before["layers"].as_array().unwrap() {
        assert_eq!(layer["lazy"], false, "{layer}");
        assert_eq!(layer["index"], Value::Null, "{layer}");
        assert!(
            layer["reason"].as_str().unwrap().contains("no index"),
            "{layer}"
        );
    }
    let directory = mount(&node, &reference, "first");
    for layer in mounted_layers(&node) {
        assert_eq!(layer["index"]["source"], "built", "{layer}");
        assert_eq!(layer["index"]["trust"], "trusted", "{layer}");
        assert!(layer["bytes_present"].as_u64().unwrap() > 0, "{layer}");
        assert!(
            layer["reason"].as_str().unwrap().contains("no index"),
            "{layer}"
        );
    }
    registry.stop();
    expected.assert_mounted_at(&directory);
    node.brisk(&["umount", directory.to_str().unwrap()]);
    node.brisk(&["service-stop"]);

    let again = mount(&node, &reference, "second");
    expected.assert_mounted_at(&again);
    let status = node.status();
    assert_eq!(status["counters"]["requests"], 0, "{status}");
}

macro_rules! lazy_images {
    ($($test:ident: $image:literal as $twin:literal,)*) => {
        $(#[test] fn $test() { lazy($image, $twin); })*
    };
}

lazy_images! {
    zoo_is_mounted_lazily: "zoo" as "zoo",
    zoo_by_go_is_mounted_lazily: "zoo-go" as "zoo",
    zoo_by_docker_media_type_is_mounted_lazily: "zoo-docker" as "zoo",
    zoo_by_zstd_is_mounted_lazily: "zoo-zstd" as "zoo",
    zoo_uncompressed_is_mounted_lazily: "zoo-plain" as "zoo",
    python_is_mounted_lazily: "python" as "python",
    python_by_go_is_mounted_lazily: "python-go" as "python",
    python_by_zstd_is_mounted_lazily: "python-zstd" as "python",
}

#[test]
fn zoo_without_an_index_is_pulled_whole_and_needs_no_registry_afterwards() {
    whole("zoo", "zoo");
}

#[test]
fn zoo_by_zstd_without_an_index_is_pulled_whole_and_needs_no_registry_afterwards() {
    whole("zoo-zstd", "zoo");
}

#[test]
fn python_without_an_index_is_pulled_whole_and_needs_no_registry_afterwards() {
    whole("python", "python");
}

#[test]
fn a_layout_directory_is_a_source() {
    let expected = Expected::of("zoo");
    let node = Node::new();
    for image in ["zoo", "zoo-zstd"] {
        let reference = format!("oci:{}:latest", images::layout(image).display());
        let directory = mount(&node, &reference, image);
        expected.assert_mounted_at(&directory);
        node.brisk(&["umount", directory.to_str().unwrap()]);
    }
    let status = node.status();
    assert_eq!(status["counters"]["requests"], 0, "{status}");
}
