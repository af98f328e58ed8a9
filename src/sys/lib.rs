//! Kernel interfaces and zlib calls behind safe functions: the only unsafe code of brisk.

mod child_signals;

pub use child_signals::unblock_signals;
