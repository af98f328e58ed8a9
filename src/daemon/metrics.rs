//! What a service tells its monitoring: counts and times in the OpenMetrics text format, and
//! whether it works.
//!
//! Nothing is counted twice: the numbers are those of `brisk status`, read when somebody asks.

mod calls;
mod exposition;
mod gather;
mod server;

pub use calls::CallStatistics;
pub use gather::{Gathered, fuse_requests};
pub use server::{Address, MetricsError, serve};

/// A read that waits for so long hangs: no range of a layer takes this long to come through a
/// link that is worth using.
pub const HUNG_AFTER: std::time::Duration = std::time::Duration::from_secs(30);
