//! The API over its socket, as containerd's proxy uses it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod codes;
mod harness;
mod killed;
mod model;
mod snapshots;
mod threads;
