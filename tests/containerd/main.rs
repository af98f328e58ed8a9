//! brisk-runtime below Debian's containerd and its shim, with the same asked of runc.
//!
//! Needs root, containerd with ctr, runc, busybox-static and containernetworking-plugins.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod events;
mod pods;
mod tasks;
mod terminals;
mod work;
