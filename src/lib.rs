//! brisk starts a container before its image has arrived.
//!
//! The floors of this crate import downwards only; ARCHITECTURE.md has the plan and
//! `tests/house.rs` holds it.

pub mod blob;
pub mod cache;
pub mod cli;
pub mod codec;
pub mod container;
pub mod daemon;
pub mod image;
pub mod indexer;
pub mod layer;
pub mod mount;
pub mod registry;
