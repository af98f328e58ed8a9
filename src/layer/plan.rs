//! Which chunks to fetch, and which of them in one request.

use std::ops::Range;

use index_format::{Chunk, FormatError, Index, LEAF_SIZE, StreamOffset};

use brisk_codec::MAX_CHUNK_LENGTH;

/// Compressed bytes asked for in one demand request, at most, unless a single chunk has more:
/// a reader waits for all of it.
pub(super) const MAX_DEMAND_REQUEST: u64 = 8 << 20;

/// A chunk's compressed bytes, at most: those of the longest chunk that is ever decoded, had it
/// been stored uncompressed, with room for the headers of its blocks.
const MAX_COMPRESSED_CHUNK: u64 = MAX_CHUNK_LENGTH + (1 << 20);

/// Whether a chunk can be fetched on its own. Checked before anything is asked for: an index
/// may say anything.
pub(super) fn is_fetchable(chunk: &Chunk) -> bool {
    chunk.stream.end.saturating_sub(chunk.stream.start) <= MAX_CHUNK_LENGTH
        && chunk.compressed.end.saturating_sub(chunk.compressed.start) <= MAX_COMPRESSED_CHUNK
}

/// Adjacent chunks fetched by one request.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Never empty; each one's stream starts where the one's before ends.
    pub(super) chunks: Vec<Chunk>,
}

impl Run {
    /// The part of the stream that the run yields.
    pub(super) fn stream(&self) -> Range<u64> {
        self.chunks[0].stream.start..self.chunks[self.chunks.len() - 1].stream.end
    }

    /// The bytes of the blob to fetch.
    pub(super) fn compressed(&self) -> Range<u64> {
        let start = self.chunks.iter().map(|chunk| chunk.compressed.start).min();
        let end = self.chunks.iter().map(|chunk| chunk.compressed.end).max();
        start.unwrap_or(0)..end.unwrap_or(0)
    }

    /// Adds the chunk behind it, if the run has no more than `limit` compressed bytes then;
    /// gives it back if not.
    pub(super) fn extend(&mut self, chunk: Chunk, limit: u64) -> Option<Chunk> {
        let is_next = self
            .chunks
            .last()
            .is_some_and(|last| last.number + 1 == chunk.number);
        let length = chunk.compressed.end.saturating_sub(self.compressed().start);
        if !is_next || length > limit {
            return Some(chunk);
        }
        self.chunks.push(chunk);
        None
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.chunks.iter().map(|chunk| chunk.number)
    }
}

/// The part of the stream that a leaf covers.
pub(super) fn leaf_range(leaf: u64, stream_size: u64) -> Range<u64> {
    let start = leaf * LEAF_SIZE;
    start..(start + LEAF_SIZE).min(stream_size)
}

/// The leaves that a range of the stream touches.
pub(super) fn leaves_of(range: &Range<u64>) -> Range<u64> {
    range.start / LEAF_SIZE..range.end.div_ceil(LEAF_SIZE)
}

/// The numbers of the chunks that together yield a range of the stream, which is not empty.
pub(super) fn chunks_of(index: &Index, range: &Range<u64>) -> Result<Range<u32>, FormatError> {
    let first = index.chunk_containing(StreamOffset(range.start))?;
    let last = index.chunk_containing(StreamOffset(range.end - 1))?;
    Ok(first..last + 1)
}

/// Puts chunks, sorted by number, into runs of neighbours of at most `limit` compressed bytes.
pub(super) fn runs(chunks: Vec<Chunk>, limit: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for chunk in chunks {
        let left = match runs.last_mut() {
            Some(run) => run.extend(chunk, limit),
            None => Some(chunk),
        };
        runs.extend(left.map(|chunk| Run {
            chunks: vec![chunk],
        }));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::{is_fetchable, leaf_range, leaves_of, runs};
    use index_format::{Chunk, ChunkFlags};

    fn chunk(number: u32) -> Chunk {
        let at = u64::from(number) * 100;
        Chunk {
            number,
            stream: at * 3..at * 3 + 300,
            // As with gzip, the last byte is shared with the next chunk.
            compressed: at..at + 101,
            bit: 0,
            flags: ChunkFlags::default(),
            checkpoint: 0..0,
        }
    }

    #[test]
    fn neighbours_share_a_request_up_to_the_limit() {
        let numbers = |limit| -> Vec<Vec<u32>> {
            let chunks = [1, 2, 3, 7, 8, 10].map(chunk).to_vec();
            runs(chunks, limit)
                .iter()
                .map(|run| run.numbers().collect())
                .collect()
        };
        assert_eq!(numbers(1000), [vec![1, 2, 3], vec![7, 8], vec![10]]);
        assert_eq!(numbers(201), [vec![1, 2], vec![3], vec![7, 8], vec![10]]);
        assert_eq!(numbers(1), [[1], [2], [3], [7], [8], [10]]);
        let run = &runs(vec![chunk(1), chunk(2)], 1000)[0];
        assert_eq!((run.compressed(), run.stream()), (100..301, 300..900));
    }

    #[test]
    fn chunks_that_would_fill_the_memory_are_not_fetched() {
        assert!(is_fetchable(&chunk(1)));
        let long = Chunk {
            stream: 0..(64 << 20) + 1,
            ..chunk(1)
        };
        let wide = Chunk {
            compressed: 0..1 << 30,
            ..chunk(1)
        };
        assert!(!is_fetchable(&long) && !is_fetchable(&wide));
    }

    #[test]
    fn leaves_cover_ranges() {
        assert_eq!(leaves_of(&(0..1)), 0..1);
        assert_eq!(leaves_of(&(65535..65537)), 0..2);
        assert_eq!(leaf_range(1, 65540), 65536..65540);
    }
}
