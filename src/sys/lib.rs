//! Kernel interfaces and zlib calls behind safe functions: the only unsafe code of brisk.

pub mod descriptor;
#[cfg(feature = "inflate")]
pub mod inflate;
#[cfg(feature = "map")]
pub mod map;
pub mod clone;
pub mod close_range;
pub mod keyring;
pub mod loopback;
pub mod mount_attributes;
pub mod namespace;
pub mod seccomp;
pub mod signal;
pub mod tuning;
