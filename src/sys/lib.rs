//! Kernel interfaces and zlib calls behind safe functions: the only unsafe code of brisk.

pub mod bpf;
pub mod clone;
pub mod close_range;
pub mod descriptor;
#[cfg(feature = "inflate")]
pub mod inflate;
pub mod keyring;
pub mod loopback;
#[cfg(feature = "map")]
pub mod map;
pub mod mount_attributes;
pub mod namespace;
pub mod scheduling;
pub mod seccomp;
pub mod signal;
pub mod tuning;

mod child_signals;

pub use child_signals::unblock_signals;
