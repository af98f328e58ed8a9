//! Learning what a start reads, and bringing it along: recorded starts, packs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod packs;
mod recording;
#[path = "../support/mod.rs"]
mod support;
