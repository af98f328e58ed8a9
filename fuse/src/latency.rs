//! How long things took: a histogram that any thread adds to without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in nanoseconds: powers of four from 1 µs (metadata from
/// memory) to 69 s (a read that waited for the network); a last one has no bound.
pub const BOUNDS_NS: [u64; 14] = bounds();

const fn bounds() -> [u64; 14] {
    let mut bounds = [0; 14];
    let mut number = 0;
    while number < bounds.len() {
        bounds[number] = 1024 << (2 * number);
        number += 1;
    }
    bounds
}

/// Counts of durations by bucket, since the process started.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

/// What a [`LatencyHistogram`] held at one moment; what is added meanwhile may be in a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySnapshot {
    /// Durations in each bucket of [`BOUNDS_NS`], and above the last bound.
    pub buckets: [u64; BOUNDS_NS.len() + 1],
    /// All durations together.
    pub sum: Duration,
}

impl LatencyHistogram {
    /// Adds one duration: two additions and a search of four steps.
    pub fn add(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < took);
        // The position is at most the number of bounds. Nothing is ordered by a count.
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(took, Ordering::Relaxed);
    }

    /// What has been added so far.
    pub fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot {
            buckets: std::array::from_fn(|n| self.buckets[n].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
        }
    }
}

impl LatencySnapshot {
    /// Durations in all buckets.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let histogram = LatencyHistogram::default();
        for nanoseconds in [0, 1024, 1025, 4096, u64::MAX / 4] {
            histogram.add(Duration::from_nanos(nanoseconds));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.buckets[..3], [2, 2, 0]);
        assert_eq!(snapshot.buckets[BOUNDS_NS.len()], 1);
        assert_eq!(snapshot.count(), 5);
        assert!(snapshot.sum > Duration::from_nanos(u64::MAX / 4));
        assert_eq!(BOUNDS_NS[13], 68_719_476_736);
    }
}
