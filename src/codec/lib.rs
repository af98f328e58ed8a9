//! Compressed layers: one pass that finds the chunks and makes their checkpoints, and the
//! decoding of any one chunk, for gzip, zstd and plain streams.
//!
//! A *chunk* is a run of the layer's uncompressed stream with the compressed bytes that yield
//! it. What a decoder must know to start there is its *checkpoint*: nothing where a gzip
//! member or a zstd frame starts, else the history that the chunk refers to and, for zstd,
//! the entropy tables. Checkpoint records are opaque to everybody else.

mod chunks;
mod error;
mod gzip;
mod history;
mod plain;
mod varint;
#[cfg(any(test, feature = "writers"))]
pub mod writers;
mod zstd;

pub use self::error::CodecError;

use index_format::{ChunkFlags, CompressedOffset, Compression, StreamOffset};

/// The longest chunk that is ever decoded, in bytes of the stream. Chunks start only where
/// the compressor ended a block, so one can be longer than asked for; above this a reader
/// would spend a tenth of a second and this much memory for a single leaf, and the layer is
/// better streamed whole.
pub const MAX_CHUNK_LENGTH: u64 = 64 << 20;

/// The longest chunk that can be asked for; the rest up to [`MAX_CHUNK_LENGTH`] is room for
/// the block in which a chunk ends.
pub const MAX_CHUNK_SIZE: u64 = MAX_CHUNK_LENGTH / 2;

/// How long chunks of zstd grow where checkpoints are costly: as long as they can be, but for
/// the block in which they end (128 KiB) and some room. 60 MiB take a twentieth of a second.
pub const MAX_GROWN_CHUNK: u64 = MAX_CHUNK_LENGTH - (4 << 20);

/// Of how many compressed bytes one may go into checkpoints, where chunks grow to keep to it.
/// With the tree and the digests of leaves an index then takes 1.5 % of a usual layer. Stock
/// gzip stays below at 1 MiB and libzstd -3 at 8 MiB; the large windows of `zstd -19` do not.
pub const CHECKPOINT_SHARE: u64 = 100;

/// How to scan a layer.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions {
    /// A chunk ends at the first possible place after this many bytes of the stream; taken
    /// as 1 when 0 and as [`MAX_CHUNK_SIZE`] when above it.
    pub chunk_size: u64,
    /// A stream longer than this many bytes is refused.
    pub max_stream_size: u64,
    /// Chunks grow beyond `chunk_size`, up to [`MAX_CHUNK_SIZE`] (gzip, whose blocks
    /// have no limit) or [`MAX_GROWN_CHUNK`] (zstd), while checkpoints would take
    /// more than [`CHECKPOINT_SHARE`] of the layer.
    pub grows: bool,
}

impl ScanOptions {
    fn checked(self) -> ScanOptions {
        ScanOptions {
            chunk_size: self.chunk_size.clamp(1, MAX_CHUNK_SIZE),
            ..self
        }
    }
}

/// Where a scanner puts the bytes of the stream, in order. An error ends the scan; give
/// [`CodecError::Sink`].
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), CodecError>;

/// A layer's scanner: compressed bytes in, the stream and the places of its chunks out.
/// Memory is bounded by the format's window and one chunk.
pub trait Scanner: Send {
    /// Takes the next compressed bytes, in pieces of any size.
    ///
    /// # Errors
    /// When the bytes are no such stream, when a limit is passed, or when the sink fails.
    /// After an error every further call answers [`CodecError::AlreadyFailed`].
    fn push(&mut self, compressed: &[u8], sink: Sink<'_>) -> Result<(), CodecError>;

    /// Ends the scan; everything has then been given to the sink and its checksums verified.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] when the stream has not ended.
    fn finish(self: Box<Self>) -> Result<Scan, CodecError>;
}

/// What a scan has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The chunks, in order; together they cover the stream. No chunk is empty.
    pub chunks: Vec<ScannedChunk>,
    /// Length of the compressed layer in bytes, padding and skippable frames included.
    pub compressed_size: u64,
    /// Length of the stream in bytes.
    pub stream_size: u64,
    /// Why single chunks of this layer must not be asked for. Then `chunks` holds only the
    /// free ones, and they can be of any length.
    pub stream_only: Option<StreamOnly>,
}

/// One chunk of a [`Scan`]. It ends where the next one starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedChunk {
    /// The chunk's first byte in the stream.
    pub stream_start: StreamOffset,
    /// The compressed byte in which the chunk starts.
    pub compressed_start: CompressedOffset,
    /// The end of the compressed bytes that the chunk needs. This is one byte after the next
    /// chunk's `compressed_start` when the two share that byte (its `bit` is not 0).
    pub compressed_end: CompressedOffset,
    /// How many low bits of the first compressed byte belong to the chunk before: 0 to 7.
    pub bit: u8,
    /// [`ChunkFlags::FREE`] where a member or a frame starts, [`ChunkFlags::WINDOW_SUFFICES`]
    /// where [`History::Window`] is enough (gzip).
    pub flags: ChunkFlags,
    /// The checkpoint's record, empty when the chunk is free.
    pub checkpoint: Vec<u8>,
}

impl ScannedChunk {
    /// Whether the chunk needs no history: a member or a frame starts there.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.flags.contains(ChunkFlags::FREE)
    }
}

/// Why a layer can only be streamed whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamOnly {
    /// The compressor left no place to start for longer than [`MAX_CHUNK_LENGTH`].
    #[error("a chunk of {length} bytes would be longer than the limit of {MAX_CHUNK_LENGTH}")]
    LongChunk {
        /// Length of the chunk in bytes of the stream.
        length: u64,
    },
    /// The window of a zstd frame is too large to be given to every chunk.
    #[error("the zstd window of {window} bytes is above the limit of {limit} for checkpoints")]
    LargeWindow {
        /// The frame's window in bytes.
        window: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The stream is sound for libzstd but not as our own reader of sequences understands
    /// the format, so no checkpoint made from it could be trusted.
    #[error("the zstd frame has blocks that no checkpoint can be made for: {reason}")]
    UnknownBlocks {
        /// What the reader stumbled on.
        reason: &'static str,
    },
}

/// A scanner for a layer with this compression.
#[must_use]
pub fn scanner(compression: Compression, options: ScanOptions) -> Box<dyn Scanner> {
    let options = options.checked();
    match compression {
        Compression::None => guarded(plain::PlainScanner::new(options)),
        Compression::Gzip => guarded(gzip::GzipScanner::new(options)),
        Compression::Zstd => guarded(zstd::ZstdScanner::new(options)),
    }
}

/// A scanner that only decodes, for a layer that is streamed from a member's, a frame's or its
/// own start: it makes no checkpoints, so its memory is the format's window. Its [`Scan`] knows
/// free chunks only.
#[must_use]
pub fn streamer(compression: Compression, max_stream_size: u64) -> Box<dyn Scanner> {
    let options = ScanOptions {
        // No place is ever this far from the one before.
        chunk_size: u64::MAX,
        max_stream_size,
        grows: false,
    };
    match compression {
        Compression::None => guarded(plain::PlainScanner::new(options)),
        Compression::Gzip => guarded(gzip::GzipScanner::new(options)),
        Compression::Zstd => guarded(zstd::ZstdScanner::without_checkpoints(options)),
    }
}

/// Puts a scanner behind the promise about calls after an error.
fn guarded(scanner: impl Scanner + 'static) -> Box<dyn Scanner> {
    Box::new(Guarded {
        scanner: Box::new(scanner),
        failed: false,
    })
}

struct Guarded<S: Scanner> {
    scanner: Box<S>,
    failed: bool,
}

impl<S: Scanner> Scanner for Guarded<S> {
    fn push(&mut self, compressed: &[u8], sink: Sink<'_>) -> Result<(), CodecError> {
        if self.failed {
            return Err(CodecError::AlreadyFailed);
        }
        let result = self.scanner.push(compressed, sink);
        self.failed = result.is_err();
        result
    }

    fn finish(self: Box<Self>) -> Result<Scan, CodecError> {
        if self.failed {
            Err(CodecError::AlreadyFailed)
        } else {
            self.scanner.finish()
        }
    }
}

/// The compressed bytes of one chunk, as its [`ScannedChunk`] says.
#[derive(Debug, Clone, Copy)]
pub struct ChunkSource<'a> {
    /// The bytes from `compressed_start` on. They may go on beyond the chunk's end only by
    /// the byte shared with the next chunk and by what yields nothing (trailers, padding,
    /// skippable frames).
    pub compressed: &'a [u8],
    /// How many low bits of the first byte belong to the chunk before: 0 to 7.
    pub bit: u8,
    /// The chunk's exact length in bytes of the stream.
    pub stream_length: u64,
}

/// What is known of the stream before a chunk.
#[derive(Debug, Clone, Copy)]
pub enum History<'a> {
    /// Nothing is needed: the chunk is free.
    Free,
    /// The chunk's checkpoint record.
    Checkpoint(&'a [u8]),
    /// The bytes of the stream right before the chunk: 32 KiB, or all when there are fewer.
    /// Enough for gzip and plain streams; zstd needs `Both`.
    Window(&'a [u8]),
    /// The record for what the stream cannot tell (zstd's tables), and at least
    /// [`history_length`] bytes of the stream right before the chunk for the rest.
    Both {
        /// The chunk's checkpoint record.
        checkpoint: &'a [u8],
        /// The bytes right before the chunk.
        window: &'a [u8],
    },
}

/// Decodes one whole chunk: exactly `stream_length` bytes, or an error.
///
/// All input may be hostile: the answer may then be other bytes of the right length (the
/// caller verifies leaf digests), and memory stays within the declared length and the
/// format's window.
///
/// # Errors
/// When the bytes or the record are corrupt, when they yield more or less than the declared
/// length, when that is above [`MAX_CHUNK_LENGTH`], or when history is missing.
pub fn decode_chunk(
    compression: Compression,
    chunk: &ChunkSource<'_>,
    history: History<'_>,
) -> Result<Vec<u8>, CodecError> {
    if chunk.stream_length > MAX_CHUNK_LENGTH {
        let (length, limit) = (chunk.stream_length, MAX_CHUNK_LENGTH);
        return Err(CodecError::ChunkTooLong { length, limit });
    }
    match compression {
        Compression::None => plain::decode_chunk(chunk),
        Compression::Gzip => gzip::decode_chunk(chunk, history),
        Compression::Zstd => zstd::decode_chunk(chunk, history),
    }
}

/// How many bytes of the stream right before a chunk replace the history of its checkpoint
/// record, so that [`History::Window`] or [`History::Both`] can be given.
///
/// # Errors
/// [`CodecError::Checkpoint`] when the record is not one of this compression's.
pub fn history_length(compression: Compression, checkpoint: &[u8]) -> Result<u64, CodecError> {
    match compression {
        Compression::None => Ok(0),
        Compression::Gzip => gzip::history_length(checkpoint),
        Compression::Zstd => zstd::history_length(checkpoint),
    }
}

#[cfg(test)]
mod tests;
