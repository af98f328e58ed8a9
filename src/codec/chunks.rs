//! The list of chunks that a scan of gzip or zstd grows.

use index_format::{ChunkFlags, CompressedOffset, StreamOffset};

use super::{CHECKPOINT_SHARE, MAX_CHUNK_LENGTH, Scan, ScanOptions, ScannedChunk, StreamOnly};

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
#[derive(Debug)]
pub(super) struct ChunkList {
    options: ScanOptions,
    /// Chunks do not grow beyond this, in bytes of the stream.
    grown: u64,
    chunks: Vec<ScannedChunk>,
    /// Bytes of all checkpoints so far.
    checkpoint_bytes: u64,
    /// Bytes of the last one.
    last_checkpoint: u64,
    longest: u64,
    /// Where the last member or frame that yielded anything ended.
    content_end: u64,
}

impl ChunkList {
    /// An empty list, whose chunks grow up to `grown` bytes where they grow.
    pub(super) fn new(options: ScanOptions, grown: u64) -> ChunkList {
        ChunkList {
            options,
            grown,
            chunks: Vec::new(),
            checkpoint_bytes: 0,
            last_checkpoint: 0,
            longest: 0,
            content_end: 0,
        }
    }

    /// Whether a chunk that is free may start at this byte of the stream.
    pub(super) fn wants_free(&self, stream: u64) -> bool {
        self.last_start()
            .is_none_or(|start| stream - start >= self.options.chunk_size)
    }

    /// Whether a chunk with a checkpoint may start here: the one before is long enough and, where
    /// chunks grow, the layer so far pays for another checkpoint. `open` is about what the last
    /// chunk's will take, if that is not made yet, in bytes.
    pub(super) fn wants_checkpoint(&self, stream: u64, compressed: u64, open: u64) -> bool {
        let Some(start) = self.last_start() else {
            return true;
        };
        let length = stream - start;
        if length < self.options.chunk_size {
            return false;
        }
        if !self.options.grows || length >= self.grown {
            return true;
        }
        // The next one will probably be as large as this one.
        let next = if open > 0 { open } else { self.last_checkpoint };
        (self.checkpoint_bytes + open + next).saturating_mul(CHECKPOINT_SHARE) <= compressed
    }

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
        self.last_checkpoint = record.len() as u64;
        self.checkpoint_bytes += self.last_checkpoint;
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
