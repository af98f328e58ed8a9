//! Images and their indexes written to registries and layouts: `brisk copy`, `push`, `tags`,
//! `delete`, `index push`, `key generate`, and what is believed of what was published.
//!
//! Needs root, /dev/fuse, docker-registry and skopeo.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod automatic;
mod copying;
mod deleting;
mod indexes;
mod signing;

use serde_json::Value;
use support::node::Node;

/// Source and trust of the index of each layer, by `brisk inspect`.
fn indexes(node: &Node, reference: &str, platform: Option<&str>) -> Vec<(String, String)> {
    let mut words = vec!["inspect", "--json"];
    words.extend(
        platform
            .iter()
            .flat_map(|platform| ["--platform", platform]),
    );
    words.push(reference);
    let inspected: Value = serde_json::from_slice(&node.brisk(&words).stdout).unwrap();
    let layers = inspected["layers"].as_array().unwrap();
    let word =
        |layer: &Value, what: &str| layer["index"][what].as_str().unwrap_or("none").to_owned();
    layers
        .iter()
        .map(|layer| (word(layer, "source"), word(layer, "trust")))
        .collect()
}

/// Every layer has an index of that source and trust.
fn all_are(node: &Node, reference: &str, source: &str, trust: &str) {
    let found = indexes(node, reference, None);
    let expected = (source.to_owned(), trust.to_owned());
    assert!(
        found.iter().all(|one| *one == expected),
        "{reference}: {found:?}"
    );
}

/// Digest of the manifest or image index that a reference names.
fn digest_of(reference: &str) -> String {
    let mut skopeo = std::process::Command::new("skopeo");
    skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
    let raw = support::run(skopeo.arg(format!("docker://{reference}"))).stdout;
    index_format::Digest::of(&raw).to_string()
}
