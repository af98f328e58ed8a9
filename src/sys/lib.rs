//! Kernel interfaces and zlib calls behind safe functions: the only unsafe code of brisk.

pub mod descriptor;
#[cfg(feature = "inflate")]
pub mod inflate;
