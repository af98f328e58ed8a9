//! Which chunks of a layer are still to be fetched.

use std::ops::Range;

use index_format::{Chunk, FormatError};

use super::{Layer, ReadError, plan};

/// The longest chunk of a stream-only layer that is fetched on its own, in bytes of the stream.
/// Such a layer has free chunks only, of whatever length its frames have, and decoding it from
/// one's start gives a reader the same without the bytes that he did not ask for.
const LONGEST_OF_STREAM_ONLY: u64 = 8 << 20;

impl Layer {
    /// Whether fetching a chunk would bring anything: some leaf of it is neither in the cache,
    /// nor about to come with a pack, nor, at its edges, waiting for the neighbour only.
    pub(super) fn lacks(&self, chunk: &Chunk) -> bool {
        let size = self.index().stream_size();
        if self.file().has(chunk.stream.clone()) {
            return false;
        }
        plan::leaves_of(&chunk.stream).any(|leaf| {
            let range = plan::leaf_range(leaf, size);
            !self.file().has(range.clone())
                && !self.expects(leaf)
                && !self.holds_part(leaf, &inside(chunk, &range))
        })
    }

    /// Whether the layer has to be decoded from its start: some chunk is too long to be fetched
    /// on its own, or the checkpoints are lost.
    pub(super) fn must_be_streamed(&self) -> bool {
        self.lost_checkpoints().get().is_some() || !self.is_divisible()
    }

    /// Whether a chunk can and should be fetched on its own.
    pub(super) fn is_fetchable(&self, chunk: &Chunk) -> bool {
        let length = chunk.stream.end.saturating_sub(chunk.stream.start);
        let is_stream_only = self.index().features().stream_only().is_some();
        plan::is_fetchable(chunk) && (!is_stream_only || length <= LONGEST_OF_STREAM_ONLY)
    }

    /// Whether every chunk is fetched on its own.
    fn is_divisible(&self) -> bool {
        (0..self.index().chunk_count()).all(|number| {
            self.chunk(number)
                .is_ok_and(|chunk| self.is_fetchable(&chunk))
        })
    }

    /// Whether a part of a leaf is in memory, unverified.
    pub(super) fn holds_part(&self, leaf: u64, part: &Range<u64>) -> bool {
        let parts = self.scratch().parts((self.id(), leaf));
        parts
            .iter()
            .any(|(range, _)| range.start <= part.start && part.end <= range.end)
    }

    pub(super) fn chunk(&self, number: u32) -> Result<Chunk, ReadError> {
        self.index()
            .chunk(number)
            .map_err(|source| self.damaged(source))
    }

    pub(super) fn damaged(&self, source: FormatError) -> ReadError {
        ReadError::Index {
            layer: self.digest(),
            source,
        }
    }
}

/// The part of a chunk that lies within a leaf.
pub(super) fn inside(chunk: &Chunk, leaf: &Range<u64>) -> Range<u64> {
    chunk.stream.start.max(leaf.start)..chunk.stream.end.min(leaf.end)
}
