//! How fast a host answers: bandwidth and round trip, from the requests that went well.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests remembered: enough to forget a slow minute soon, few enough to follow a link that
/// got slower.
const SAMPLES: usize = 16;

/// Bytes per request that nobody waits for, before anything is known of the link. Usually a
/// reader's request has been there first, and more is known.
const FIRST_REQUEST: u64 = 64 << 10;

/// Bytes on their way for nobody meanwhile: a round trip of 30 ms at 70 Mbit/s.
const FIRST_WINDOW: u64 = 256 << 10;

/// Smaller requests would spend the link on headers and the server on lookups.
const MIN_REQUEST: u64 = 64 << 10;

/// Larger ones would gain nothing and hold more memory.
const MAX_REQUEST: u64 = 8 << 20;

/// More bytes on their way for nobody would gain nothing on any link that can be had.
const MAX_WINDOW: u64 = 64 << 20;

/// A request's bytes keep a link of no distance busy this long, at least: 500 requests per
/// second are enough.
const SHORTEST_REQUEST: Duration = Duration::from_millis(2);

/// Part of a request's time that its bytes took to arrive, at least: what was waiting in
/// buffers arrives at once and says nothing about the link.
const LEAST_TRANSFER: f64 = 1.0 / 8.0;

/// A request that went well.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it was sent.
    pub started: Instant,
    /// When its last byte was there.
    pub ended: Instant,
    /// Time to the first byte, where the blob knows it.
    pub first_byte: Option<Duration>,
    /// Bytes of the answer.
    pub bytes: u64,
}

/// The nearest answer of so long, and of as long before, tells how far away the host is. Requests
/// that queue behind one another say less about it the more of them there are.
const TRIP_PERIOD: Duration = Duration::from_secs(30);

/// A moving picture of one host's link.
#[derive(Debug, Default)]
pub(super) struct Pace {
    arrivals: VecDeque<Arrival>,
    /// Bytes per second while each of them lasted.
    rates: VecDeque<f64>,
    trips: Trips,
}

/// The shortest time to the first byte of this period and of the one before.
#[derive(Debug, Default)]
struct Trips {
    period: Option<Instant>,
    shortest: Option<Duration>,
    before: Option<Duration>,
}

impl Trips {
    fn record(&mut self, at: Instant, trip: Duration) {
        let period = *self.period.get_or_insert(at);
        let elapsed = at.saturating_duration_since(period);
        if elapsed >= TRIP_PERIOD {
            self.before = self.shortest.take().filter(|_| elapsed < TRIP_PERIOD * 2);
            self.period = Some(at);
        }
        self.shortest = Some(self.shortest.map_or(trip, |shortest| shortest.min(trip)));
    }

    fn shortest(&self) -> Option<Duration> {
        self.shortest.into_iter().chain(self.before).min()
    }
}

impl Pace {
    /// Notes a request.
    pub(super) fn record(&mut self, arrival: Arrival) {
        if self.arrivals.len() == SAMPLES {
            self.arrivals.pop_front();
            self.rates.pop_front();
        }
        self.arrivals.push_back(arrival);
        if let Some(trip) = arrival.first_byte {
            self.trips.record(arrival.ended, trip);
        }
        let elapsed = (arrival.ended - arrival.started).as_secs_f64();
        // All of this arrived within the request's time: a lower bound of the link's rate.
        let within = |other: &&Arrival| other.started >= arrival.started;
        let bytes: u64 = self
            .arrivals
            .iter()
            .filter(within)
            .map(|other| other.bytes)
            .sum();
        let trip = self.trip().map_or(0.0, |trip| trip.as_secs_f64());
        let transfer = (elapsed - trip).max(elapsed * LEAST_TRANSFER);
        self.rates.push_back(if transfer > 0.0 {
            bytes as f64 / transfer
        } else {
            0.0
        });
    }

    /// Bytes per second that the link has carried.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rates
            .iter()
            .copied()
            .reduce(f64::max)
            .filter(|rate| *rate > 0.0)
    }

    /// From sending a request to the first byte of its answer, at best.
    pub(super) fn trip(&self) -> Option<Duration> {
        self.trips.shortest()
    }

    /// Round trip times bandwidth: the bytes on their way when the link is just full.
    fn product(&self) -> Option<u64> {
        // A float too large for the integer saturates.
        Some((self.rate()? * self.trip()?.as_secs_f64()) as u64)
    }

    /// Bytes to ask for at a time where nobody waits: a quarter of what is on its way in a
    /// round trip, so that little is in a reader's way when it comes; all of it, where `quiet`:
    /// where no reader is likely to come.
    pub(super) fn request_bytes(&self, quiet: bool) -> u64 {
        let known = self.product().zip(self.rate());
        let bytes = known.map_or(FIRST_REQUEST, |(product, rate)| {
            let part = if quiet { product } else { product / 4 };
            part.max((rate * SHORTEST_REQUEST.as_secs_f64()) as u64)
        });
        bytes.clamp(MIN_REQUEST, MAX_REQUEST)
    }

    /// Bytes on their way for nobody, at most, unless a single request has more. When one ends,
    /// what is left still fills the link until the next one's bytes arrive; and when a reader
    /// comes, nearly all of it has arrived before the reader's answer begins. Where no reader is
    /// likely to come there is more, for answers that begin now earlier, now later.
    pub(super) fn window_bytes(&self, quiet: bool) -> u64 {
        let product = self.product().unwrap_or(FIRST_WINDOW).min(MAX_WINDOW);
        let requests = if quiet { 2 } else { 1 };
        product.saturating_add(self.request_bytes(quiet).saturating_mul(requests))
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, FIRST_REQUEST, MAX_REQUEST, MIN_REQUEST, Pace};
    use std::time::{Duration, Instant};

    /// Requests one after another over a link of `rate` bytes per second and `trip`.
    fn measure(pace: &mut Pace, rate: u64, trip: Duration) {
        let mut started = Instant::now();
        for _ in 0..40 {
            let bytes = pace.request_bytes(false);
            let ended = started + trip + Duration::from_secs_f64(bytes as f64 / rate as f64);
            pace.record(Arrival {
                started,
                ended,
                first_byte: Some(trip),
                bytes,
            });
            started = ended;
        }
    }

    #[test]
    fn requests_follow_round_trip_times_bandwidth() {
        assert_eq!(Pace::default().request_bytes(false), FIRST_REQUEST);
        let cases = [
            (100_000_000 / 8, 30, 90_000..95_000, 460_000..475_000),
            (
                1_000_000_000 / 8,
                30,
                930_000..940_000,
                4_600_000..4_700_000,
            ),
            (
                10_000_000_000 / 8,
                100,
                MAX_REQUEST..MAX_REQUEST + 1,
                60_000_000..80_000_000,
            ),
            (1_000_000_000 / 8, 1, 249_000..251_000, 370_000..380_000),
            (
                1_000_000 / 8,
                50,
                MIN_REQUEST..MIN_REQUEST + 1,
                71_000..72_000,
            ),
        ];
        for (rate, trip, requests, windows) in cases {
            let mut pace = Pace::default();
            measure(&mut pace, rate, Duration::from_millis(trip));
            let (request, window) = (pace.request_bytes(false), pace.window_bytes(false));
            assert!(
                requests.contains(&request),
                "{rate} B/s, {trip} ms: {request}"
            );
            assert!(windows.contains(&window), "{rate} B/s, {trip} ms: {window}");
        }
    }

    #[test]
    fn a_link_that_got_slower_is_noticed() {
        let mut pace = Pace::default();
        measure(&mut pace, 1_000_000_000 / 8, Duration::from_millis(30));
        measure(&mut pace, 10_000_000 / 8, Duration::from_millis(30));
        assert_eq!(pace.request_bytes(false), MIN_REQUEST);
    }

    #[test]
    fn requests_side_by_side_are_added_up_and_older_ones_are_not() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut arrive = |started, ended, bytes| {
            let first_byte = Some(Duration::ZERO);
            pace.record(Arrival {
                started: at(started),
                ended: at(ended),
                first_byte,
                bytes,
            });
        };
        arrive(1000, 1050, 500_000);
        arrive(1000, 1100, 500_000);
        // One that began long ago ends within another's time.
        arrive(0, 1190, 5_000_000);
        arrive(1180, 1200, 100_000);
        assert!(
            (9.9e6..10.1e6).contains(&pace.rate().unwrap()),
            "{:?}",
            pace.rate()
        );
    }
}
