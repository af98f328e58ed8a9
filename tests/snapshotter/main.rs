//! `brisk daemon` under Debian's containerd: pull, run, remove; restarts and kills.
//!
//! Needs root, containerd with ctr, runc, docker-registry, skopeo and umoci.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod channel;
mod cri;
mod daemon;
mod images;
mod lifetime;
mod metrics;
mod pulled;
mod remote;
mod unpacker;
