//! Bad input: each kind has its own message that names it, an exit code, and leaves nothing.
//!
//! Needs root, /dev/fuse, docker-registry, skopeo and brisk-runtime beside brisk.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod bombs;
mod command_line;
mod contract;
mod damage;
mod hostile;
mod images;
mod indexes;
mod interrupt;
mod links;
mod machine;
mod traces;
