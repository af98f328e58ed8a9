//! Containers of `brisk run`: specification, state on disk, monitor process, log.
//!
//! A container has one owner from its directory to its last byte of output: its
//! *monitor*, a process of its own that outlives the command line and the mount
//! service. The command line asks it to run ([`launch`]), is attached to it while it
//! is in the foreground ([`attach`]), and otherwise reads what it wrote ([`store`],
//! [`log`]). Images come through the trait [`image::ImageProvider`] alone, so nothing
//! here knows of registries, indexes or FUSE.

pub mod attach;
pub mod cgroup;
pub mod cleanup;
pub mod control;
pub mod error;
pub mod execute;
pub mod id;
pub mod image;
pub mod launch;
pub mod log;
pub mod monitor;
pub mod options;
pub mod overlay;
pub mod process;
pub mod relay;
pub mod rootfs;
pub mod runtime;
pub mod signal;
pub mod size;
pub mod spec;
pub mod stop;
pub mod store;
pub mod terminal;
pub mod timestamp;

pub use error::ContainerError;
pub use id::ContainerId;
pub use image::{AcquiredImage, ImageError, ImageProvider, ImageRequest};
pub use options::RunOptions;
pub use store::Store;
