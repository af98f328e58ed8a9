//! What the integration tests share: images, a real registry, a brisk root, tree comparison.
//!
//! Every guard here cleans up when it is dropped, also when its test has failed.

#![allow(dead_code, reason = "every test binary uses another part")]

pub mod images;
pub mod link;
pub mod node;
pub mod readers;
pub mod registry;
pub mod small;
pub mod tree;

use std::process::{Command, Output};

/// Runs a command to its end and gives its output; panics with both streams when it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The text of a stream.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
