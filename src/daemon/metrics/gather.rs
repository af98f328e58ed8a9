//! The numbers of a service at one moment.

use fuse::{LatencySnapshot, RequestCounts, RequestKind};

use crate::daemon::control::{Counters, NotLazy};
use crate::daemon::metrics::calls::MethodStatistics;

/// FUSE requests of one kind.
#[derive(Clone, Debug)]
pub struct FuseRequests {
    /// The kind's name.
    pub name: &'static str,
    /// Requests that have come.
    pub begun: u64,
    /// How long those took that have been answered.
    pub times: LatencySnapshot,
}

/// The numbers of a service at one moment.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// What `brisk status` shows.
    pub counters: Counters,
    /// Layers that were not lazy, by reason.
    pub not_lazy: Vec<NotLazy>,
    /// Bytes of layer content on disk.
    pub cache_bytes: u64,
    /// Bytes that it may take.
    pub cache_budget: u64,
    /// Mounted images.
    pub mounts: u64,
    /// What the kernel has asked, by kind.
    pub fuse: Vec<FuseRequests>,
    /// What containerd has asked, by method.
    pub calls: Vec<MethodStatistics>,
}

/// What the kernel has asked, by kind; forgets have no answer and are left out.
pub fn fuse_requests(requests: &RequestCounts) -> Vec<FuseRequests> {
    let answered = RequestKind::ALL
        .into_iter()
        .filter(|kind| *kind != RequestKind::Forget);
    answered
        .map(|kind| FuseRequests {
            name: kind.name(),
            // Read first: what has been answered has come before.
            times: requests.latency(kind),
            begun: requests.of(kind),
        })
        .collect()
}
