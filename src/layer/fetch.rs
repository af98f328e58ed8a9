//! Fetching a run: requests with retries, decoding, one more attempt at what arrived wrong.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;

use crate::blob::BlobError;

use super::checkpoints::Checkpoints;
use super::decode::{self, DecodeJob};
use super::decoded::Decoded;
use super::flight::{Flight, Outcome};
use super::gate::Permit;
use super::plan::Run;
use super::{Cause, CheckpointError, Layer, ReadError};

/// The first pause after a failed request ...
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// ... and the longest: recovery is noticed this soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A link slower than this is an outage: 16 KiB per second.
const SLOWEST_LINK: u64 = 16 << 10;

impl Layer {
    /// Fetches a claimed run and tells everybody who waits for it.
    pub(super) async fn fly(self: Arc<Self>, flight: Flight, cause: Cause, permit: Option<Permit>) {
        let fetch = self.fetch_run(&flight.run, cause, permit);
        let result = match cause {
            // Through an outage nobody fetches for readers that have gone.
            Cause::Demand => tokio::select! {
                result = fetch => result,
                () = flight.deserted() => return,
            },
            Cause::ReadAhead | Cause::Background => fetch.await,
        };
        let outcome = match result {
            Ok(decoded) => Outcome::Decoded(Arc::new(decoded)),
            Err(error) => Outcome::Failed(cause, error),
        };
        flight.land(outcome);
    }

    async fn fetch_run(
        self: &Arc<Self>,
        run: &Run,
        cause: Cause,
        permit: Option<Permit>,
    ) -> Result<Decoded, ReadError> {
        let window = self.window_before(run);
        let (bytes, checkpoints) = if self.needs_checkpoints(run, window.is_some()) {
            let both = futures_util::future::join(
                self.download(run, cause, permit, false),
                self.checkpoints(cause),
            );
            let (bytes, checkpoints) = both.await;
            (bytes?, Some(checkpoints?))
        } else {
            (self.download(run, cause, permit, false).await?, None)
        };
        let decoded = self.decode(run, cause, bytes, window, checkpoints).await?;
        let wrong = decoded.wrong().count() as u64;
        if wrong == 0 {
            return Ok(decoded);
        }
        self.counters().count_verification_failures(wrong);
        let layer = self.digest();
        tracing::warn!(%layer, leaves = wrong, "content does not match its digests; fetching anew");
        self.fetch_again(run, cause).await
    }

    /// The second and last attempt: past whatever may keep copies, and from checkpoints only.
    async fn fetch_again(self: &Arc<Self>, run: &Run, cause: Cause) -> Result<Decoded, ReadError> {
        let checkpoints = match self.needs_checkpoints(run, false) {
            true => Some(self.checkpoints(cause).await?),
            false => None,
        };
        let bytes = self.download(run, cause, None, true).await?;
        let decoded = self.decode(run, cause, bytes, None, checkpoints).await?;
        let mut wrong = 0;
        for leaf in decoded.wrong() {
            wrong += 1;
            // Whichever part is to blame, both are fetched when the leaf is wanted again.
            self.scratch().forget_parts((self.id(), leaf));
        }
        if wrong > 0 {
            self.counters().count_verification_failures(wrong);
            tracing::error!(layer = %self.digest(), leaves = wrong, "content is corrupt");
        }
        Ok(decoded)
    }

    async fn decode(
        self: &Arc<Self>,
        run: &Run,
        cause: Cause,
        bytes: Bytes,
        window: Option<Vec<u8>>,
        checkpoints: Option<Arc<Checkpoints>>,
    ) -> Result<Decoded, ReadError> {
        let idle = match cause {
            Cause::Demand => None,
            Cause::ReadAhead | Cause::Background => {
                Some(self.resources().idle_decoders.acquire().await)
            }
        };
        let (layer, run) = (self.clone(), run.clone());
        let job = DecodeJob {
            layer,
            cause,
            run,
            bytes,
            window,
            checkpoints,
        };
        let decoded = self
            .resources()
            .runtime
            .spawn_blocking(move || job.run())
            .await;
        drop(idle);
        decoded.map_err(|_| ReadError::Stopping {
            layer: self.digest(),
        })
    }

    /// The bytes right before a run, where they are in the cache or in memory.
    fn window_before(&self, run: &Run) -> Option<Vec<u8>> {
        let first = run.chunks.first()?;
        let compression = self.index().compression();
        let useful = decode::window_suffices(compression) && !decode::is_free(compression, first);
        if !useful {
            return None;
        }
        self.decoded_before(decode::window_range(first.stream.start))
    }

    fn needs_checkpoints(&self, run: &Run, has_window: bool) -> bool {
        let compression = self.index().compression();
        let mut known = has_window;
        let mut needed = false;
        for chunk in &run.chunks {
            let free = decode::is_free(compression, chunk);
            let by_window = known && decode::window_suffices(compression);
            needed |= !free && !by_window;
            // Once a chunk is decoded its end is the next one's window, if it is long enough.
            let length = chunk.stream.end - chunk.stream.start;
            known |= length >= decode::GZIP_WINDOW || chunk.stream.start == 0;
        }
        needed
    }

    /// The layer's checkpoint section, loaded when it is first needed.
    pub(super) async fn checkpoints(&self, cause: Cause) -> Result<Arc<Checkpoints>, ReadError> {
        let load = || async {
            let after = self.policy().attempt_limit;
            let load = tokio::time::timeout(after, self.checkpoint_source().load());
            load.await.unwrap_or_else(|_| {
                let blob = format!("the checkpoints of {}", self.digest());
                Err(BlobError::TimedOut {
                    blob,
                    range: 0..0,
                    after,
                }
                .into())
            })
        };
        let loaded = self.loaded_checkpoints().get_or_try_init(|| async {
            let retry = |error: &CheckpointError| error.is_retryable();
            let loaded = self.with_retries(cause, load, retry, |_| None).await;
            loaded
                .map(Arc::new)
                .map_err(|error| ReadError::Checkpoints {
                    layer: self.digest(),
                    source: Arc::new(error),
                })
        });
        loaded.await.cloned()
    }

    /// The compressed bytes of a run.
    async fn download(
        &self,
        run: &Run,
        cause: Cause,
        permit: Option<Permit>,
        again: bool,
    ) -> Result<Bytes, ReadError> {
        let permit = match permit {
            Some(permit) => permit,
            None => self.gate().enter(cause, run.compressed_bytes()).await,
        };
        let attempt = || self.request(run, cause, &permit, again);
        let retry = |error: &BlobError| error.is_retryable();
        let result = self
            .with_retries(cause, attempt, retry, BlobError::retry_after)
            .await;
        result.map_err(|error| ReadError::Unavailable {
            layer: self.digest(),
            source: Arc::new(error),
        })
    }

    /// One request, within its limit.
    async fn request(
        &self,
        run: &Run,
        cause: Cause,
        permit: &Permit,
        again: bool,
    ) -> Result<Bytes, BlobError> {
        let range = run.compressed();
        let length = range.end - range.start;
        self.counters().count_request(cause);
        let read = match again {
            true => self.blob().reread_at(range.clone()),
            false => self.blob().read_at(range.clone()),
        };
        let limit = self.policy().attempt_limit + Duration::from_secs(length / SLOWEST_LINK);
        let result = match tokio::time::timeout(limit, read).await {
            Ok(Ok(bytes)) if bytes.len() as u64 != length => {
                let got = bytes.len() as u64;
                Err(BlobError::Length {
                    blob: self.blob().name(),
                    range,
                    got,
                })
            }
            Ok(result) => result,
            Err(_) => Err(BlobError::TimedOut {
                blob: self.blob().name(),
                range,
                after: limit,
            }),
        };
        match &result {
            Ok(_) => {
                permit.arrived(length);
                self.counters().count_fetched(cause, length);
            }
            Err(error) => {
                self.counters().count_failed_request();
                tracing::debug!(layer = %self.digest(), %error, "a request failed");
            }
        }
        result
    }

    /// Repeats what may succeed later, as long as the outage policy lets a reader wait. What
    /// nobody waits for is tried once: its caller comes back.
    async fn with_retries<T, E, F>(
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
            if !self.policy().on_outage.allows(start.elapsed(), pause) {
                tracing::warn!(layer = %self.digest(), %error, "given up after {:?}", start.elapsed());
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }
}
