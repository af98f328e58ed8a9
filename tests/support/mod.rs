//! What the integration tests share: images, a real registry, a brisk root, tree comparison.
//!
//! Every guard here cleans up when it is dropped, also when its test has failed.

#![allow(dead_code, reason = "every test binary uses another part")]

pub mod busybox;
pub mod containerd;
pub mod crafted;
pub mod gateway;
pub mod images;
pub mod lab;
pub mod link;
pub mod node;
pub mod platforms;
pub mod readers;
pub mod registry;
pub mod small;
pub mod stopped;
pub mod tree;

use std::process::{Command, Output, Stdio};

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

/// What a command came to, whether or not it succeeded.
#[derive(Debug)]
pub struct Done {
    /// Exit code; -1 for an end by a signal.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it said on stderr.
    pub err: String,
}

/// Runs a command to its end, for at most two minutes; code 124 then.
pub fn done(command: &Command) -> Done {
    let mut limited = Command::new("timeout");
    limited.args(["--foreground", "-k", "5", "120"]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = limited.stdin(Stdio::null()).output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}
