//! brisk-runtime below Debian's containerd and its shim, with the same asked of runc.
//!
//! Needs root, containerd with ctr, runc and busybox-static.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod events;
mod tasks;
mod terminals;
mod work;
