//! Decoding a fetched run, verifying its leaves, storing them. Runs on a blocking thread.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use index_format::{Chunk, ChunkFlags, Compression, Digest};

use brisk_cache::{NotKept, Priority, Stored};
use brisk_codec::{self, ChunkSource, History};

use super::checkpoints::Checkpoints;
use super::decoded::{Decoded, Verdict};
use super::plan::{self, Run};
use super::scratch::Part;
use super::{Cause, Layer};

/// Bytes of the stream that a deflate block may refer back to (RFC 1951).
pub(super) const GZIP_WINDOW: u64 = 32 << 10;

/// A run's bytes and what is needed to decode them.
pub(super) struct DecodeJob {
    pub(super) layer: Arc<Layer>,
    pub(super) cause: Cause,
    pub(super) run: Run,
    /// The run's compressed range.
    pub(super) bytes: Bytes,
    /// The stream's bytes right before the run, as far as they are needed and here.
    pub(super) window: Option<Vec<u8>>,
    pub(super) checkpoints: Option<Arc<Checkpoints>>,
}

/// How many bytes before `start` gzip wants to see.
pub(super) fn window_range(start: u64) -> Range<u64> {
    start.saturating_sub(GZIP_WINDOW)..start
}

/// Whether the stream's bytes before a chunk can stand in for its checkpoint.
pub(super) fn window_suffices(chunk: &Chunk) -> bool {
    chunk.flags.contains(ChunkFlags::WINDOW_SUFFICES)
}

/// Whether a chunk needs nothing of what is before it.
pub(super) fn is_free(compression: Compression, chunk: &Chunk) -> bool {
    compression == Compression::None || chunk.flags.contains(ChunkFlags::FREE)
}

impl DecodeJob {
    /// Decodes what can be decoded and judges every leaf that is known in full.
    pub(super) fn run(self) -> Decoded {
        let mut decoded = self.decode();
        let leaves = plan::leaves_of(&self.run.stream());
        for leaf in leaves {
            self.judge(leaf, &mut decoded);
        }
        decoded
    }

    fn decode(&self) -> Decoded {
        let mut decoded = Decoded::default();
        let mut window = self.window.clone();
        for chunk in &self.run.chunks {
            match self.decode_chunk(chunk, window.as_deref()) {
                Ok(bytes) => {
                    window = slide(window, chunk.stream.start, &bytes);
                    decoded.push_chunk(chunk.stream.clone(), bytes);
                }
                Err(reason) => {
                    let layer = self.layer.digest();
                    tracing::warn!(%layer, chunk = chunk.number, reason, "a chunk is undecodable");
                    window = None;
                }
            }
        }
        self.layer
            .counters()
            .count_decoded(self.run.chunks.len() as u64);
        decoded
    }

    fn decode_chunk(&self, chunk: &Chunk, window: Option<&[u8]>) -> Result<Vec<u8>, String> {
        let base = self.run.compressed().start;
        let range =
            (chunk.compressed.start - base) as usize..(chunk.compressed.end - base) as usize;
        let source = ChunkSource {
            compressed: self.bytes.get(range).ok_or("its bytes did not arrive")?,
            bit: chunk.bit,
            stream_length: chunk.stream.end - chunk.stream.start,
        };
        let compression = self.layer.index().compression();
        let record;
        let history = match (window, &self.checkpoints) {
            _ if is_free(compression, chunk) => History::Free,
            (Some(window), _) if window_suffices(chunk) => History::Window(window),
            (_, Some(checkpoints)) => {
                record = checkpoints
                    .record(chunk)
                    .map_err(|error| error.to_string())?;
                History::Checkpoint(&record)
            }
            (_, None) => return Err("what precedes it is not known".into()),
        };
        brisk_codec::decode_chunk(compression, &source, history).map_err(|error| error.to_string())
    }

    /// Verifies a leaf and stores it. One that reaches beyond the run is put together with
    /// what earlier fetches left of it, or left for later ones.
    fn judge(&self, leaf: u64, decoded: &mut Decoded) {
        let layer = &self.layer;
        let stream = self.run.stream();
        let range = plan::leaf_range(leaf, layer.index().stream_size());
        if layer.file().has(range.clone()) {
            layer.scratch().forget_parts((layer.id(), leaf));
            return;
        }
        let inside = range.start.max(stream.start)..range.end.min(stream.end);
        let Some(bytes) = decoded.bytes(&inside) else {
            return decoded.judge(leaf, Verdict::Wrong);
        };
        let bytes = match inside == range {
            true => bytes,
            false => match self.offer(leaf, range, (inside, bytes)) {
                Some(bytes) => bytes,
                None => return,
            },
        };
        if self.layer.matches(leaf, &bytes) {
            decoded.judge(leaf, Verdict::Right);
            decoded.no_room |= !store(layer, leaf, &bytes, self.cause);
        } else {
            decoded.judge(leaf, Verdict::Wrong);
        }
    }

    /// Hands the run's part of a leaf at its edge to the scratch memory; the whole leaf when
    /// that completes it.
    fn offer(&self, leaf: u64, whole: Range<u64>, (at, bytes): Part) -> Option<Bytes> {
        // A copy: a slice would hold the whole chunk in memory.
        let part = (at, Bytes::copy_from_slice(&bytes));
        self.layer
            .scratch()
            .offer((self.layer.id(), leaf), whole, part)
            .map(Bytes::from)
    }
}

/// Stores a verified leaf, in memory where the disk has no room and somebody will read it.
/// False when the budget did not allow it.
pub(super) fn store(layer: &Layer, leaf: u64, bytes: &[u8], cause: Cause) -> bool {
    let priority = match cause {
        Cause::Demand | Cause::StartUp | Cause::Speculation => Priority::Demand,
        Cause::Background => Priority::Background,
    };
    let stored = layer.file().store(leaf, bytes, priority);
    let not_kept = match stored {
        Ok(Stored::Kept) => return true,
        Ok(Stored::NotKept(reason)) => reason,
        // The index and the cache disagree about the stream's size: checked in `Layer::new`.
        Err(error) => {
            tracing::error!(layer = %layer.digest(), leaf, %error, "a leaf does not fit");
            return true;
        }
    };
    if cause != Cause::Background {
        layer.scratch().keep((layer.id(), leaf), bytes);
    }
    not_kept == NotKept::Busy
}

/// The window after a chunk: its last bytes, and earlier ones where it is short.
fn slide(before: Option<Vec<u8>>, start: u64, chunk: &[u8]) -> Option<Vec<u8>> {
    let wanted = window_range(start + chunk.len() as u64);
    let from_before = start.saturating_sub(wanted.start) as usize;
    if from_before == 0 {
        let skip = wanted.start.saturating_sub(start) as usize;
        return Some(chunk[skip..].to_vec());
    }
    let before = before.filter(|before| before.len() >= from_before)?;
    Some([&before[before.len() - from_before..], chunk].concat())
}

impl Layer {
    /// Whether bytes are those of a leaf.
    pub(super) fn matches(&self, leaf: u64, bytes: &[u8]) -> bool {
        self.index()
            .leaf_digest(leaf)
            .is_ok_and(|digest| digest == Digest::of(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::slide;

    #[test]
    fn the_window_slides_over_short_chunks() {
        let long = vec![7; 40_000];
        assert_eq!(slide(None, 5, &long).unwrap().len(), 32 << 10);
        assert_eq!(slide(None, 0, &[1, 2]).unwrap(), [1, 2]);
        assert_eq!(slide(Some(vec![1, 2]), 2, &[3]).unwrap(), [1, 2, 3]);
        assert_eq!(slide(None, 2, &[3]), None);
        let window = slide(Some(vec![1; 32 << 10]), 1 << 20, &[2; 10]).unwrap();
        assert_eq!(window.len(), 32 << 10);
        assert_eq!(
            window[window.len() - 11..],
            [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
        );
    }
}
