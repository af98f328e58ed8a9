//! The list of chunks that a scan of gzip or zstd grows.

use index_format::{ChunkFlags, CompressedOffset, StreamOffset};

use super::{MAX_CHUNK_LENGTH, Scan, ScannedChunk, StreamOnly};

/// Where a chunk can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Bytes of the stream before it.
    pub(super) stream: u64,
    /// The compressed byte in which it lies.
    pub(super) compressed: u64,
    /// Low bits of that byte that are before it.
    pub(super) bit: u8,
}

/// The chunks so far.
#[derive(Debug, Default)]
pub(super) struct ChunkList {
    chunks: Vec<ScannedChunk>,
    longest: u64,
    /// Where the last member or frame that yielded anything ended.
    content_end: u64,
}

impl ChunkList {
    /// Adds a chunk; it ends the one before. One that is not free gets a checkpoint later.
    pub(super) fn push(&mut self, start: Start, flags: ChunkFlags) {
        self.note_length(start.stream);
        // Before a free start something that yields nothing may lie: it need not be fetched.
        let shared = u64::from(start.bit != 0);
        let free = flags.contains(ChunkFlags::FREE);
        let end = if free {
            self.content_end
        } else {
            start.compressed + shared
        };
        if let Some(last) = self.chunks.last_mut() {
            last.compressed_end = CompressedOffset(end);
        }
        self.chunks.push(ScannedChunk {
            stream_start: StreamOffset(start.stream),
            compressed_start: CompressedOffset(start.compressed),
            compressed_end: CompressedOffset(start.compressed),
            bit: start.bit,
            flags,
            checkpoint: Vec::new(),
        });
    }

    /// Gives the last chunk its record.
    pub(super) fn set_checkpoint(&mut self, record: Vec<u8>) {
        let last = self.chunks.last_mut();
        last.expect("a chunk was pushed before its checkpoint")
            .checkpoint = record;
    }

    /// A member or frame that yielded something ends before this compressed byte.
    pub(super) fn content_ends(&mut self, compressed: u64) {
        self.content_end = compressed;
    }

    /// The last chunk's start in the stream; `None` before the first.
    pub(super) fn last_start(&self) -> Option<u64> {
        self.chunks.last().map(|chunk| chunk.stream_start.0)
    }

    /// Whether the chunk that now ends at `stream` has become too long for a reader.
    pub(super) fn is_too_long(&self, stream: u64) -> bool {
        self.last_start()
            .is_some_and(|start| stream - start > MAX_CHUNK_LENGTH)
    }

    fn note_length(&mut self, stream_end: u64) {
        let length = self.last_start().map_or(0, |start| stream_end - start);
        self.longest = self.longest.max(length);
    }

    /// Closes the list.
    pub(super) fn finish(
        mut self,
        compressed_size: u64,
        stream_size: u64,
        stream_only: Option<StreamOnly>,
    ) -> Scan {
        self.note_length(stream_size);
        let long = StreamOnly::LongChunk {
            length: self.longest,
        };
        let stream_only = stream_only.or((self.longest > MAX_CHUNK_LENGTH).then_some(long));
        let mut chunks = self.chunks;
        if let Some(last) = chunks.last_mut() {
            last.compressed_end = CompressedOffset(self.content_end);
        }
        if stream_only.is_some() {
            chunks.retain(|chunk| chunk.is_free());
            let mut end = CompressedOffset(self.content_end);
            for chunk in chunks.iter_mut().rev() {
                chunk.compressed_end = end;
                end = chunk.compressed_start;
            }
        }
        Scan {
            chunks,
            compressed_size,
            stream_size,
            stream_only,
        }
    }
}
