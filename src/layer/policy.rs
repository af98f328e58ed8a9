//! What a layer does when the network does not answer, and how far it reads ahead.

use std::time::Duration;

/// How long a read of missing content waits through an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOutage {
    /// Wait and retry this long, then EIO.
    Wait(Duration),
    /// Wait and retry as long as it takes.
    Forever,
    /// One attempt, then EIO.
    Eio,
}

impl OnOutage {
    /// Whether to wait `delay` for another attempt, `elapsed` after the first one.
    pub(super) fn allows(&self, elapsed: Duration, delay: Duration) -> bool {
        match self {
            OnOutage::Wait(limit) => elapsed.saturating_add(delay) <= *limit,
            OnOutage::Forever => true,
            OnOutage::Eio => false,
        }
    }
}

/// How a layer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What reads of missing content do while the network is away.
    pub on_outage: OnOutage,
    /// An attempt that has not ended after this time, plus what a slow link needs for its
    /// bytes, has failed. The blob has limits of its own; this one bounds them all.
    pub attempt_limit: Duration,
    /// Bytes of the stream fetched ahead of a sequential reader; 0 for none.
    pub read_ahead_bytes: u64,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            on_outage: OnOutage::Wait(Duration::from_secs(300)),
            // Above the registry client's own limits, so that its error is the one reported.
            attempt_limit: Duration::from_secs(90),
            // Two chunks of the usual size: one being read, one arriving.
            read_ahead_bytes: 4 << 20,
        }
    }
}
