//! The index format from outside: what is written is read back, layers merge as they unpack,
//! damage is found, old files stay readable.
#![allow(
    clippy::unwrap_used,
    reason = "all of this is test code; clippy sees only #[test] functions as such"
)]

mod fixture;
mod golden;
mod merge;
mod model;
mod read;
mod startup;
mod symlinks;
mod validate;
mod wire;
