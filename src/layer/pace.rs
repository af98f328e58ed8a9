//! How fast a host answers: bandwidth and round trip, from the requests that went well.

use std::collections::VecDeque;
use std::time::Duration;

/// Requests remembered: enough to forget a slow minute soon, few enough to follow a link that
/// got slower.
const SAMPLES: usize = 16;

/// Bytes per background request before anything is known of the link.
const FIRST_REQUEST: u64 = 1 << 20;

/// Smaller requests would spend the link on headers and the server on lookups.
const MIN_REQUEST: u64 = 256 << 10;

/// Larger ones would gain nothing and hold more memory.
const MAX_REQUEST: u64 = 8 << 20;

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Bytes per second delivered by all requests together while this one ran.
    rate: f64,
    /// Time this request took beyond its bytes' share of that rate.
    trip: Duration,
}

/// A moving picture of one host's link.
#[derive(Debug, Default)]
pub(super) struct Pace {
    samples: VecDeque<Sample>,
}

impl Pace {
    /// A request of `bytes` took `elapsed`, in which `delivered` bytes arrived in all.
    pub(super) fn record(&mut self, bytes: u64, delivered: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 || bytes == 0 {
            return;
        }
        let rate = delivered.max(bytes) as f64 / seconds;
        let transfer = bytes as f64 / self.rate().unwrap_or(0.0).max(rate);
        let trip = Duration::from_secs_f64((seconds - transfer).max(0.0));
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { rate, trip });
    }

    fn rate(&self) -> Option<f64> {
        self.samples
            .iter()
            .map(|sample| sample.rate)
            .reduce(f64::max)
    }

    /// Round trip times bandwidth: the bytes on their way when the link is just full. `None`
    /// while nothing is known.
    pub(super) fn product(&self) -> Option<u64> {
        let trip = self.samples.iter().map(|sample| sample.trip).min()?;
        // A float too large for the integer saturates.
        Some((self.rate()? * trip.as_secs_f64()) as u64)
    }

    /// Bytes to ask for in one background request: what is on its way in one round trip.
    pub(super) fn request_bytes(&self) -> u64 {
        self.product()
            .unwrap_or(FIRST_REQUEST)
            .clamp(MIN_REQUEST, MAX_REQUEST)
    }

    /// Bytes that requests nobody waits for may have on their way together: twice what fills
    /// the link, so that it stays full while one request ends and the next one begins.
    pub(super) fn window_bytes(&self) -> u64 {
        2 * self
            .product()
            .unwrap_or(FIRST_REQUEST)
            .clamp(MIN_REQUEST, MAX_REQUEST)
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST_REQUEST, MAX_REQUEST, MIN_REQUEST, Pace};
    use std::time::Duration;

    /// A link of `rate` bytes per second and `trip`, asked for one request after another.
    fn measure(rate: u64, trip: Duration) -> Pace {
        let mut pace = Pace::default();
        for _ in 0..40 {
            let bytes = pace.request_bytes();
            let elapsed = trip + Duration::from_secs_f64(bytes as f64 / rate as f64);
            // With two requests on their way the link delivers at its rate throughout.
            let delivered = (rate as f64 * elapsed.as_secs_f64()) as u64;
            pace.record(bytes, delivered, elapsed);
        }
        pace
    }

    #[test]
    fn requests_follow_round_trip_times_bandwidth() {
        assert_eq!(Pace::default().request_bytes(), FIRST_REQUEST);
        let cases = [
            (100_000_000 / 8, 30, MIN_REQUEST..400_000),
            (1_000_000_000 / 8, 30, 3_000_000..4_200_000),
            (10_000_000_000 / 8, 100, MAX_REQUEST..MAX_REQUEST + 1),
            (1_000_000_000 / 8, 0, MIN_REQUEST..MIN_REQUEST + 1),
        ];
        for (rate, trip, expected) in cases {
            let request = measure(rate, Duration::from_millis(trip)).request_bytes();
            assert!(
                expected.contains(&request),
                "{rate} B/s, {trip} ms: {request}"
            );
        }
    }

    #[test]
    fn a_link_that_got_slower_is_noticed() {
        let mut pace = measure(1_000_000_000 / 8, Duration::from_millis(30));
        for _ in 0..40 {
            let elapsed = Duration::from_millis(30) + Duration::from_millis(800);
            pace.record(1_000_000, 1_000_000, elapsed);
        }
        assert!(pace.request_bytes() < 400_000, "{}", pace.request_bytes());
    }
}
