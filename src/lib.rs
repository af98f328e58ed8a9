//! brisk starts a container before its image has arrived.
//!
//! The upper floors: the mount service and the command line. Each floor below is a crate of
//! its own beside them; ARCHITECTURE.md has the plan and `tests/house.rs` holds it.

pub mod cli;
pub mod daemon;
