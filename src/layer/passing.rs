//! Closing a layer that the cache cannot hold: its compressed bytes pass once, in order, and
//! none of them is kept.
//!
//! They are decoded as readers would decode them, chunk by chunk from the checkpoints, so that
//! an index whose chunks cannot be decoded is found out as well.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use index_format::{Chunk, Digest};
use sha2::{Digest as _, Sha256};

use brisk_codec::{ChunkSource, History, Scanner, decode_chunk};

use super::background::{FIRST_PAUSE, LONGEST_PAUSE};
use super::checkpoints::Checkpoints;
use super::comparison::StreamComparison;
use super::{Cause, CloseError, Closing, Layer, Purpose, ReadError, decode};

/// Requests on their way or waiting to be decoded.
const REQUESTS_AHEAD: usize = 2;

/// The layers that have passed, by digest of layer, index and diff ID: what one pass could not
/// decide the next one would not decide either.
#[derive(Debug, Default)]
pub(super) struct PassedLayers(Mutex<HashSet<[Digest; 3]>>);

impl PassedLayers {
    fn has(&self, layer: &Layer) -> bool {
        let passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.contains(&identity(layer))
    }

    fn note(&self, layer: &Layer) {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed.insert(identity(layer));
    }
}

fn identity(layer: &Layer) -> [Digest; 3] {
    [
        layer.digest(),
        layer.index().digest(),
        layer.expected_diff_id(),
    ]
}

/// How the bytes become the stream.
enum Decoding {
    /// Chunk by chunk.
    Chunks(Chunks),
    /// From the start on, as readers have to.
    Stream(Box<dyn Scanner>),
    /// What the index describes is something else, or damaged on the way.
    Failed,
}

/// The next chunk to be decoded, and the bytes that it may begin in.
struct Chunks {
    checkpoints: Option<Arc<Checkpoints>>,
    next: u32,
    /// Bytes of the blob from `base` on.
    waiting: BytesMut,
    base: u64,
}

/// A layer on its way.
struct WholePass {
    /// The next byte of the blob to be asked for.
    compressed: u64,
    blob: Sha256,
    decoding: Decoding,
    comparison: StreamComparison,
}

impl WholePass {
    fn start(layer: &Layer, checkpoints: Option<Arc<Checkpoints>>) -> WholePass {
        let decoding = if layer.must_be_streamed() {
            let index = layer.index();
            let scanner = brisk_codec::streamer(index.compression(), index.stream_size());
            Decoding::Stream(scanner)
        } else {
            Decoding::Chunks(Chunks {
                checkpoints,
                next: 0,
                waiting: BytesMut::new(),
                base: 0,
            })
        };
        WholePass {
            compressed: 0,
            blob: Sha256::new(),
            decoding,
            comparison: StreamComparison::start(layer),
        }
    }

    /// Takes the next bytes of the blob.
    fn push(&mut self, layer: &Layer, piece: &[u8]) {
        self.compressed += piece.len() as u64;
        self.blob.update(piece);
        let comparison = &mut self.comparison;
        let decoded = match &mut self.decoding {
            Decoding::Chunks(chunks) => chunks.push(layer, piece, comparison),
            Decoding::Stream(scanner) => {
                let mut sink = |bytes: &[u8]| {
                    comparison.push(bytes);
                    Ok(())
                };
                let pushed = scanner.push(piece, &mut sink);
                pushed.map_err(|error| error.to_string())
            }
            Decoding::Failed => Ok(()),
        };
        if let Err(reason) = decoded {
            tracing::warn!(layer = %layer.digest(), reason, "what passes cannot be decoded");
            self.decoding = Decoding::Failed;
        }
    }

    /// All bytes have passed. Whose fault it is that something is wrong, the layer's digest tells.
    fn finish(self, layer: &Layer) -> Result<Closing, CloseError> {
        let digest = layer.digest();
        if Digest::from_bytes(self.blob.finalize().into()) != digest {
            return Err(CloseError::Corrupt { layer: digest });
        }
        let is_whole = match self.decoding {
            Decoding::Chunks(chunks) => chunks.next == layer.index().chunk_count(),
            Decoding::Stream(scanner) => scanner.finish().is_ok(),
            Decoding::Failed => false,
        };
        if !is_whole {
            tracing::error!(layer = %digest, "the index does not lead through its layer");
            return Ok(Closing::Poisoned);
        }
        self.comparison.finish(digest)
    }
}

impl Chunks {
    /// Decodes every chunk whose bytes have all arrived.
    fn push(
        &mut self,
        layer: &Layer,
        piece: &[u8],
        comparison: &mut StreamComparison,
    ) -> Result<(), String> {
        if self.next == layer.index().chunk_count() {
            // A trailer; whatever an index leaves out is not piled up.
            return Ok(());
        }
        self.waiting.extend_from_slice(piece);
        let end = self.base + self.waiting.len() as u64;
        while self.next < layer.index().chunk_count() {
            let chunk = layer.chunk(self.next).map_err(|error| error.to_string())?;
            // With gzip neighbours share a byte.
            let start = chunk.compressed.start.clamp(self.base, end);
            self.waiting.advance((start - self.base) as usize);
            self.base = start;
            if chunk.compressed.end > end {
                break;
            }
            let bytes = self.decode(layer, &chunk)?;
            comparison.push(&bytes);
            self.next += 1;
        }
        Ok(())
    }

    fn decode(&self, layer: &Layer, chunk: &Chunk) -> Result<Vec<u8>, String> {
        let of = |at: u64| at.checked_sub(self.base).ok_or("chunks are not in order");
        let range = of(chunk.compressed.start)? as usize..of(chunk.compressed.end)? as usize;
        let source = ChunkSource {
            compressed: self.waiting.get(range).ok_or("chunks are not in order")?,
            bit: chunk.bit,
            stream_length: chunk.stream.end.saturating_sub(chunk.stream.start),
        };
        let compression = layer.index().compression();
        let record;
        let history = match &self.checkpoints {
            _ if decode::is_free(compression, chunk) => History::Free,
            Some(checkpoints) => {
                let read = checkpoints.record(chunk);
                record = read.map_err(|error| error.to_string())?;
                History::Checkpoint(&record)
            }
            None => return Err("what precedes a chunk is not known".into()),
        };
        decode_chunk(compression, &source, history).map_err(|error| error.to_string())
    }
}

impl Layer {
    /// Closes the layer by letting all its bytes pass, if that has not been done since the
    /// service started. Waits through outages. Dropping the future stops it; it begins anew then.
    ///
    /// # Errors
    /// When nothing could be decided: the layer is unclosed as before.
    pub(super) async fn close_in_passing(
        self: &Arc<Self>,
        purpose: &Purpose,
    ) -> Result<Closing, CloseError> {
        let _one_at_a_time = self.closing_state().passing().lock().await;
        if self.closing() != Closing::Unclosed || self.resources().passed.has(self) {
            return Ok(self.closing());
        }
        let mut closing = self.pass_whole(purpose, false).await;
        if let Err(CloseError::Corrupt { layer }) = closing {
            tracing::warn!(%layer, "what passes has another digest; fetching anew");
            closing = self.pass_whole(purpose, true).await;
        }
        if !matches!(closing, Err(CloseError::Stopping { .. })) {
            self.resources().passed.note(self);
        }
        closing
    }

    /// `again`: past whatever may keep copies.
    async fn pass_whole(
        self: &Arc<Self>,
        purpose: &Purpose,
        again: bool,
    ) -> Result<Closing, CloseError> {
        let checkpoints = self.checkpoints_to_pass().await;
        let mut pass = WholePass::start(self, checkpoints);
        let size = self.index().compressed_size();
        let mut pause = FIRST_PAUSE;
        while pass.compressed < size {
            let (layer, purpose) = (self.clone(), purpose.clone());
            let requests = self.requests_from(pass.compressed).map(move |range| {
                let (layer, purpose) = (layer.clone(), purpose.clone());
                async move { layer.fetch_range(range, &purpose, again).await }
            });
            let mut arriving = stream::iter(requests).buffered(REQUESTS_AHEAD);
            while let Some(piece) = arriving.next().await {
                // Somebody else may have found out.
                if self.closing() != Closing::Unclosed {
                    return Ok(self.closing());
                }
                match piece {
                    Ok(piece) => {
                        pass = self.advance(pass, piece).await?;
                        pause = FIRST_PAUSE;
                    }
                    Err(error) => {
                        tracing::debug!(%error, ?pause, "a pass pauses");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        break;
                    }
                }
            }
        }
        let layer = self.clone();
        self.while_idle(move || {
            let found = pass.finish(&layer)?;
            Ok(layer.settle(found))
        })
        .await?
    }

    /// The checkpoints, where the layer's chunks are decoded one by one from them. Waits for
    /// them; none where they are lost for good.
    async fn checkpoints_to_pass(&self) -> Option<Arc<Checkpoints>> {
        let compression = self.index().compression();
        let is_free = |number| {
            let chunk = self.chunk(number);
            chunk.is_ok_and(|chunk| decode::is_free(compression, &chunk))
        };
        if self.must_be_streamed() || (0..self.index().chunk_count()).all(is_free) {
            return None;
        }
        let mut pause = FIRST_PAUSE;
        loop {
            match self.checkpoints(Cause::Background).await {
                Ok(checkpoints) => return Some(checkpoints),
                Err(ReadError::Checkpoints { source, .. }) if source.is_retryable() => {}
                Err(_) => return None,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn advance(
        self: &Arc<Self>,
        mut pass: WholePass,
        piece: Bytes,
    ) -> Result<WholePass, CloseError> {
        let layer = self.clone();
        self.while_idle(move || {
            pass.push(&layer, &piece);
            pass
        })
        .await
    }

    /// Works on a blocking thread, on a processor that readers do not need.
    async fn while_idle<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CloseError> {
        // Never closed.
        let _idle = self.resources().idle_decoders.acquire().await;
        let worked = self.resources().runtime.spawn_blocking(work).await;
        worked.map_err(|_| CloseError::Stopping {
            layer: self.digest(),
        })
    }
}
