//! Requests for a run's bytes: in one piece for readers, in small ones for nobody, each within
//! its limit and with its permit.

use std::convert::Infallible;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};

use brisk_blob::{BlobError, Timed};

use super::flight::Flight;
use super::{Arrival, Cause, Counters, Layer, Permit, Phase, Purpose, ReadError};

/// The first pause after a failed request ...
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// ... and the longest: recovery is noticed this soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A link slower than this is an outage: 16 KiB per second.
const SLOWEST_LINK: u64 = 16 << 10;

/// Pieces of one run that may wait for their bytes, or for the gate, at a time: enough to fill
/// the gate's window.
const PIECES_AHEAD: usize = 8;

impl Layer {
    /// The compressed bytes of a flight's run. `permit` is for the first piece.
    pub(super) async fn download(
        self: &Arc<Self>,
        flight: &Flight,
        purpose: &Purpose,
        permit: Option<Permit>,
        again: bool,
    ) -> Result<Bytes, ReadError> {
        let range = flight.run.compressed();
        let result = if purpose.cause == Cause::Demand {
            self.fetch_piece(flight, purpose, permit, range, again)
                .await
        } else {
            self.fetch_pieces(flight, purpose, permit, range, again)
                .await
        };
        result.map_err(|error| ReadError::Unavailable {
            layer: self.digest(),
            source: Arc::new(error),
        })
    }

    async fn fetch_pieces(
        self: &Arc<Self>,
        flight: &Flight,
        purpose: &Purpose,
        mut permit: Option<Permit>,
        range: Range<u64>,
        again: bool,
    ) -> Result<Bytes, BlobError> {
        let pieces = self.pieces(purpose.cause, &range);
        if pieces.len() == 1 {
            return self
                .fetch_piece(flight, purpose, permit, range, again)
                .await;
        }
        let pieces = pieces.into_iter().map(|piece| {
            let permit = permit.take();
            self.fetch_piece(flight, purpose, permit, piece, again)
        });
        let mut arriving = stream::iter(pieces).buffered(PIECES_AHEAD);
        let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
        while let Some(piece) = arriving.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// Divides a range into equal requests of about the size that the link likes. What a start
    /// needs comes in fewer ones, two of which fill the gate's window for it.
    fn pieces(&self, cause: Cause, range: &Range<u64>) -> Vec<Range<u64>> {
        let size = match cause {
            Cause::StartUp => self.gate().request_bytes().saturating_mul(4),
            Cause::Demand | Cause::Speculation | Cause::Background => self.gate().request_bytes(),
        };
        let length = range.end - range.start;
        let count = ((length + size / 2) / size).max(1);
        let size = length.div_ceil(count);
        let start = |number: u64| range.start + (number * size).min(length);
        (0..count)
            .map(|number| start(number)..start(number + 1))
            .filter(|piece| !piece.is_empty())
            .collect()
    }

    /// Bytes that the first request for a range asks for.
    pub(super) fn first_piece_bytes(&self, cause: Cause, range: &Range<u64>) -> u64 {
        self.pieces(cause, range)
            .first()
            .map_or(0, |piece| piece.end - piece.start)
    }

    async fn fetch_piece(
        &self,
        flight: &Flight,
        purpose: &Purpose,
        permit: Option<Permit>,
        range: Range<u64>,
        again: bool,
    ) -> Result<Bytes, BlobError> {
        let permit = match permit {
            Some(permit) => permit,
            None => {
                let asked = Instant::now();
                let permit = self.enter(flight, purpose, range.end - range.start).await;
                self.count(purpose, |counters| {
                    counters.count_time(purpose.cause, Phase::Queue, asked.elapsed());
                });
                permit
            }
        };
        let attempt = || self.request(range.clone(), purpose, &permit, again);
        let transfer = self.with_retries(
            purpose.cause,
            attempt,
            BlobError::is_retryable,
            BlobError::retry_after,
        );
        let promote = async {
            flight.wanted().await;
            permit.promote();
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            bytes = transfer => bytes,
            never = promote => match never {},
        }
    }

    /// One range of the blob, for whoever reads it from one end to the other.
    pub(super) async fn fetch_range(
        &self,
        range: Range<u64>,
        purpose: &Purpose,
        again: bool,
    ) -> Result<Bytes, BlobError> {
        let permit = self.gate().enter(purpose, range.end - range.start).await;
        let attempt = || self.request(range.clone(), purpose, &permit, again);
        self.with_retries(
            purpose.cause,
            attempt,
            BlobError::is_retryable,
            BlobError::retry_after,
        )
        .await
    }

    /// A permit; as a reader's from the moment that a reader waits for the flight.
    async fn enter(&self, flight: &Flight, purpose: &Purpose, bytes: u64) -> Permit {
        if purpose.cause != Cause::Demand {
            tokio::select! {
                permit = self.gate().enter(purpose, bytes) => return permit,
                () = flight.wanted() => {}
            }
        }
        let purpose = Purpose::new(Cause::Demand, &purpose.account);
        self.gate().enter(&purpose, bytes).await
    }

    /// One request, within its limit.
    async fn request(
        &self,
        range: Range<u64>,
        purpose: &Purpose,
        permit: &Permit,
        again: bool,
    ) -> Result<Bytes, BlobError> {
        let length = range.end - range.start;
        let started = Instant::now();
        self.count(purpose, |counters| counters.count_request(purpose.cause));
        let read = async {
            if again {
                let bytes = self.blob().reread_at(range.clone()).await?;
                return Ok(Timed {
                    bytes,
                    first_byte: None,
                });
            }
            self.blob().read_timed(range.clone()).await
        };
        let limit = self.policy().attempt_limit + Duration::from_secs(length / SLOWEST_LINK);
        let result = tokio::time::timeout(limit, read).await;
        let blob = || self.blob().name();
        let result = match result {
            Ok(Ok(timed)) if timed.bytes.len() as u64 != length => {
                let got = timed.bytes.len() as u64;
                Err(BlobError::Length {
                    blob: blob(),
                    range: range.clone(),
                    got,
                })
            }
            Ok(result) => result,
            Err(_) => Err(BlobError::TimedOut {
                blob: blob(),
                range: range.clone(),
                after: limit,
            }),
        };
        match result {
            Ok(Timed { bytes, first_byte }) => {
                let ended = Instant::now();
                permit.arrived(Arrival {
                    started,
                    ended,
                    first_byte,
                    bytes: length,
                });
                self.count(purpose, |counters| {
                    counters.count_fetched(purpose.cause, length);
                    counters.count_time(purpose.cause, Phase::Network, ended - started);
                });
                Ok(bytes)
            }
            Err(error) => {
                self.counters().count_failed_request();
                tracing::debug!(layer = %self.digest(), %error, "a request failed");
                Err(error)
            }
        }
    }

    /// Counts for the service and for the image.
    pub(super) fn count(&self, purpose: &Purpose, count: impl Fn(&Counters)) {
        count(self.counters());
        count(purpose.account.counters());
    }

    /// Repeats what may succeed later, as long as the outage policy lets a reader wait. What
    /// nobody waits for is tried once: its caller comes back.
    pub(super) async fn with_retries<T, E, F>(
        &self,
        cause: Cause,
        attempt: impl Fn() -> F,
        is_retryable: impl Fn(&E) -> bool,
        asked_pause: impl Fn(&E) -> Option<Duration>,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: std::fmt::Display,
    {
        let start = Instant::now();
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter()
            .without_max_times();
        let mut pauses = pauses.build();
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if cause != Cause::Demand || !is_retryable(&error) {
                return Err(error);
            }
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            let pause = asked_pause(&error).map_or(pause, |asked| asked.max(pause));
            let elapsed = start.elapsed();
            if !self.policy().on_outage.allows(elapsed, pause) {
                tracing::warn!(layer = %self.digest(), %error, ?elapsed, "given up");
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }
}
