//! The mounted tree of an image: semantics over a merged index, and a thin fuser adapter.
//!
//! [`device::open_and_mount`] makes the mount, in a process that keeps its device;
//! [`Session::adopt`] serves it, in a process that may die and be replaced. The server has no
//! state: a nodeid is the inode's number in the index, open files and directories have no
//! handles, and nothing that was answered ever changes.
#![forbid(unsafe_code)]

pub mod attributes;
pub mod content;
pub mod device;
pub mod directory;
pub mod error;
pub mod extents;
pub mod init;
pub mod latency;
pub mod requests;
pub mod session;
pub mod settle;
pub mod tree;
pub mod waiting;

mod adapter;
mod caller;
mod connection;

#[cfg(test)]
#[path = "../tests/support/image.rs"]
mod image;

pub use crate::content::{Content, Done, Piece};
pub use crate::device::MountOptions;
pub use crate::error::TreeError;
pub use crate::latency::{LatencyHistogram, LatencySnapshot};
pub use crate::requests::{RequestCounts, RequestKind};
pub use crate::session::{Session, SessionError, SessionOptions};
pub use crate::settle::settle;
pub use crate::tree::MountedTree;
pub use crate::waiting::WaitingReads;
