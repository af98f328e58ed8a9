//! Fetching a run: its bytes and checkpoints, decoding, one more attempt at what arrived wrong.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use brisk_blob::BlobError;

use super::checkpoints::Checkpoints;
use super::decode::{self, DecodeJob};
use super::decoded::Decoded;
use super::flight::{Flight, Outcome};
use super::gate::Permit;
use super::memory::Taken;
use super::plan::Run;
use super::{Cause, CheckpointError, Layer, Phase, Purpose, ReadError};

/// What the owner of a fetch that nobody waits for brings along.
#[derive(Debug)]
pub(super) struct Start {
    /// For the first request.
    pub(super) permit: Permit,
    /// Given back when the bytes have arrived.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl Layer {
    /// Fetches a claimed run and tells everybody who waits for it.
    pub(super) async fn fly(
        self: Arc<Self>,
        flight: Flight,
        purpose: Purpose,
        start: Option<Start>,
    ) {
        let fetch = self.fetch_run(&flight, &purpose, start);
        let result = match purpose.cause {
            // Through an outage nobody fetches for readers that have gone.
            Cause::Demand => tokio::select! {
                result = fetch => result,
                () = flight.deserted() => return,
            },
            Cause::StartUp | Cause::Speculation | Cause::Background => fetch.await,
        };
        let outcome = match result {
            Ok(decoded) => {
                self.ledger().bring(purpose.cause, flight.run.numbers());
                Outcome::Decoded(Arc::new(decoded))
            }
            Err(error) => Outcome::Failed(purpose.cause, error),
        };
        flight.land(outcome);
    }

    async fn fetch_run(
        self: &Arc<Self>,
        flight: &Flight,
        purpose: &Purpose,
        start: Option<Start>,
    ) -> Result<Decoded, ReadError> {
        let (permit, place) = start.map_or((None, None), |start| (Some(start.permit), start.place));
        let memory = self.memory_for(flight, purpose).await;
        let window = self.window_before(&flight.run);
        if let Some(source) = self.lost_checkpoints().get()
            && self.needs_checkpoints(&flight.run, window.is_some())
        {
            return Err(self.without_checkpoints(source.clone()));
        }
        let download = self.download(flight, purpose, permit, false);
        let (bytes, checkpoints) = if self.needs_checkpoints(&flight.run, window.is_some()) {
            let both = futures_util::future::join(download, self.checkpoints(purpose.cause));
            let (bytes, checkpoints) = both.await;
            (bytes?, Some(checkpoints?))
        } else {
            (download.await?, None)
        };
        drop(place);
        let mut decoded = self
            .decode(flight, purpose, bytes, window, checkpoints)
            .await?;
        let wrong = decoded.wrong().count() as u64;
        if wrong == 0 {
            decoded.memory = Some(memory);
            return Ok(decoded);
        }
        self.counters().count_verification_failures(wrong);
        let layer = self.digest();
        tracing::warn!(%layer, leaves = wrong, "content does not match its digests; fetching anew");
        drop(decoded);
        let mut decoded = self.fetch_again(flight, purpose).await?;
        decoded.memory = Some(memory);
        Ok(decoded)
    }

    /// Memory for a run, compressed and decoded; as a reader's from the moment that a reader
    /// waits for the flight.
    async fn memory_for(&self, flight: &Flight, purpose: &Purpose) -> Taken {
        let (compressed, stream) = (flight.run.compressed(), flight.run.stream());
        let bytes = (compressed.end - compressed.start) + (stream.end - stream.start);
        let memory = &self.resources().memory;
        if purpose.cause != Cause::Demand {
            tokio::select! {
                taken = memory.take(purpose.cause, bytes) => return taken,
                () = flight.wanted() => {}
            }
        }
        memory.take(Cause::Demand, bytes).await
    }

    /// The second and last attempt: past whatever may keep copies, and from checkpoints only.
    async fn fetch_again(
        self: &Arc<Self>,
        flight: &Flight,
        purpose: &Purpose,
    ) -> Result<Decoded, ReadError> {
        let checkpoints = match self.needs_checkpoints(&flight.run, false) {
            true => Some(self.checkpoints(purpose.cause).await?),
            false => None,
        };
        let bytes = self.download(flight, purpose, None, true).await?;
        let decoded = self
            .decode(flight, purpose, bytes, None, checkpoints)
            .await?;
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
        flight: &Flight,
        purpose: &Purpose,
        bytes: Bytes,
        window: Option<Vec<u8>>,
        checkpoints: Option<Arc<Checkpoints>>,
    ) -> Result<Decoded, ReadError> {
        let started = Instant::now();
        let idle = match purpose.cause {
            Cause::Demand => None,
            Cause::StartUp | Cause::Speculation | Cause::Background => tokio::select! {
                idle = self.resources().idle_decoders.acquire() => Some(idle),
                () = flight.wanted() => None,
            },
        };
        let (layer, run) = (self.clone(), flight.run.clone());
        let job = DecodeJob {
            layer,
            cause: purpose.cause,
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
        self.count(purpose, |counters| {
            counters.count_time(purpose.cause, Phase::Decode, started.elapsed());
        });
        decoded.map_err(|_| ReadError::Stopping {
            layer: self.digest(),
        })
    }

    /// The bytes right before a run, where they are in the cache or in memory.
    fn window_before(&self, run: &Run) -> Option<Vec<u8>> {
        let first = run.chunks.first()?;
        let free = decode::is_free(self.index().compression(), first);
        if free || !decode::window_suffices(first) {
            return None;
        }
        self.decoded_before(decode::window_range(first.stream.start))
    }

    fn needs_checkpoints(&self, run: &Run, has_window: bool) -> bool {
        let compression = self.index().compression();
        let mut known = has_window;
        run.chunks.iter().any(|chunk| {
            let by_window = known && decode::window_suffices(chunk);
            // Once a chunk is decoded its end is the next one's window, if it is long enough.
            let length = chunk.stream.end - chunk.stream.start;
            known |= length >= decode::GZIP_WINDOW || chunk.stream.start == 0;
            !decode::is_free(compression, chunk) && !by_window
        })
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
            let loaded = self.with_retries(cause, load, CheckpointError::is_retryable, |_| None);
            loaded.await.map(Arc::new).map_err(Arc::new)
        });
        let error = match loaded.await {
            Ok(checkpoints) => return Ok(checkpoints.clone()),
            Err(error) => error,
        };
        if !error.is_retryable() && self.lost_checkpoints().set(error.clone()).is_ok() {
            let layer = self.digest();
            tracing::warn!(%layer, %error, "no checkpoints: the layer is decoded from its start");
        }
        Err(self.without_checkpoints(error))
    }

    fn without_checkpoints(&self, source: Arc<CheckpointError>) -> ReadError {
        ReadError::Checkpoints {
            layer: self.digest(),
            source,
        }
    }
}
