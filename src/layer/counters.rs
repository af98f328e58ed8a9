//! What the layers of a service have done: plain numbers for its metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Cause;

/// What a fetch that readers wait for is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its turn to send a request.
    Queue,
    /// Its bytes.
    Network,
    /// A processor: decoding, verifying and storing.
    Decode,
}

/// Since when some read waits, and for how long some read has waited before.
#[derive(Debug, Default)]
struct Stall {
    reads: u64,
    since: Option<Instant>,
    before: Duration,
}

/// Counters since the service started; `demand_reads_waiting` is a gauge.
#[derive(Debug, Default)]
pub struct Counters {
    demand_reads_waiting: AtomicU64,
    local_reads: AtomicU64,
    missing_reads: AtomicU64,
    fetched_bytes: [AtomicU64; Cause::ALL.len()],
    requests: [AtomicU64; Cause::ALL.len()],
    failed_requests: AtomicU64,
    decoded_chunks: AtomicU64,
    verification_failures: AtomicU64,
    failed_reads: AtomicU64,
    /// Microseconds of demand fetches, by phase.
    demand_time: [AtomicU64; 3],
    stall: Mutex<Stall>,
}

impl Counters {
    /// Reads that wait for missing content now.
    pub fn demand_reads_waiting(&self) -> u64 {
        self.demand_reads_waiting.load(Ordering::Relaxed)
    }

    /// Reads answered from the cache at once.
    pub fn local_reads(&self) -> u64 {
        self.local_reads.load(Ordering::Relaxed)
    }

    /// Reads that had to fetch.
    pub fn missing_reads(&self) -> u64 {
        self.missing_reads.load(Ordering::Relaxed)
    }

    /// Compressed bytes that arrived.
    pub fn fetched_bytes(&self, cause: Cause) -> u64 {
        self.fetched_bytes[cause as usize].load(Ordering::Relaxed)
    }

    /// Range requests made, retries included.
    pub fn requests(&self, cause: Cause) -> u64 {
        self.requests[cause as usize].load(Ordering::Relaxed)
    }

    /// Range requests that failed.
    pub fn failed_requests(&self) -> u64 {
        self.failed_requests.load(Ordering::Relaxed)
    }

    /// Chunks decoded.
    pub fn decoded_chunks(&self) -> u64 {
        self.decoded_chunks.load(Ordering::Relaxed)
    }

    /// Leaves that did not match their digest.
    pub fn verification_failures(&self) -> u64 {
        self.verification_failures.load(Ordering::Relaxed)
    }

    /// Reads answered with an error.
    pub fn failed_reads(&self) -> u64 {
        self.failed_reads.load(Ordering::Relaxed)
    }

    /// Time that demand fetches have spent in a phase, added up over those side by side.
    pub fn demand_time(&self, phase: Phase) -> Duration {
        Duration::from_micros(self.demand_time[phase as usize].load(Ordering::Relaxed))
    }

    /// Time during which at least one read waited.
    pub fn stalled(&self) -> Duration {
        let stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        let since = stall.since.map_or(Duration::ZERO, |since| since.elapsed());
        stall.before + since
    }

    pub(super) fn count_time(&self, cause: Cause, phase: Phase, time: Duration) {
        if cause == Cause::Demand {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            self.demand_time[phase as usize].fetch_add(micros, Ordering::Relaxed);
        }
    }

    pub(super) fn count_local_read(&self) {
        self.local_reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_request(&self, cause: Cause) {
        self.requests[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failed_request(&self) {
        self.failed_requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_fetched(&self, cause: Cause, bytes: u64) {
        self.fetched_bytes[cause as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_decoded(&self, chunks: u64) {
        self.decoded_chunks.fetch_add(chunks, Ordering::Relaxed);
    }

    pub(super) fn count_verification_failures(&self, leaves: u64) {
        self.verification_failures
            .fetch_add(leaves, Ordering::Relaxed);
    }

    pub(super) fn count_failed_read(&self) {
        self.failed_reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a waiting read until the value is dropped.
    pub(super) fn wait(&self) -> WaitingRead<'_> {
        self.missing_reads.fetch_add(1, Ordering::Relaxed);
        self.demand_reads_waiting.fetch_add(1, Ordering::Relaxed);
        let mut stall = self.stall.lock().unwrap_or_else(PoisonError::into_inner);
        stall.reads += 1;
        stall.since.get_or_insert_with(Instant::now);
        drop(stall);
        WaitingRead { counters: self }
    }
}

pub(super) struct WaitingRead<'a> {
    counters: &'a Counters,
}

impl Drop for WaitingRead<'_> {
    fn drop(&mut self) {
        let counters = self.counters;
        counters
            .demand_reads_waiting
            .fetch_sub(1, Ordering::Relaxed);
        let mut stall = counters
            .stall
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stall.reads -= 1;
        if stall.reads == 0
            && let Some(since) = stall.since.take()
        {
            stall.before += since.elapsed();
        }
    }
}
