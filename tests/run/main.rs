//! `brisk run` and its companions on the whole product: a real registry, a lazy mount, an
//! overlay, brisk's own runtime.
//!
//! Needs root, /dev/fuse, docker-registry, skopeo, umoci and brisk-runtime beside brisk.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod attached;
mod confinement;
mod detached;
mod economy;
mod files;
mod interrupts;
mod mirrors;
mod outages;
mod programs;
mod registries;
mod runtimes;
mod seclusion;
mod service;
mod streamed;
