//! Counts of what travelled, for `status`, the benches and the tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a client's requests have cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TripCounts {
    /// HTTP requests sent, redirects and token requests included.
    pub requests: u64,
    /// Redirects followed.
    pub redirects: u64,
    /// Requests to token services.
    pub token_requests: u64,
    /// Attempts after the first, and streams reopened.
    pub retries: u64,
    /// Body bytes received.
    pub bytes_received: u64,
    /// Body bytes sent.
    pub bytes_sent: u64,
}

/// The counters behind [`TripCounts`]. Relaxed: they order nothing.
#[derive(Debug, Default)]
pub(super) struct Trips {
    requests: AtomicU64,
    redirects: AtomicU64,
    token_requests: AtomicU64,
    retries: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
}

impl Trips {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn redirect(&self) {
        self.redirects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn token_request(&self) {
        self.token_requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes_received
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> TripCounts {
        TripCounts {
            requests: self.requests.load(Ordering::Relaxed),
            redirects: self.redirects.load(Ordering::Relaxed),
            token_requests: self.token_requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
        }
    }
}
