//! What can go wrong with a compressed layer.

use index_format::{CompressedOffset, Compression};

/// An error of a scanner or of [`decode_chunk`](super::decode_chunk). Offsets count from the
/// first byte of the layer when scanning, of the chunk's bytes when decoding a chunk.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not what their format demands.
    #[error("corrupt {compression:?} data at byte {}: {reason}", offset.0)]
    Corrupt {
        /// The format that was expected.
        compression: Compression,
        /// Where it was noticed; the damage may be earlier.
        offset: CompressedOffset,
        /// What is wrong.
        reason: String,
    },
    /// A checksum of the format (gzip trailer, zstd frame) does not match the content.
    #[error("{what} of the {compression:?} data that ends at byte {} does not match", offset.0)]
    Checksum {
        /// The format.
        compression: Compression,
        /// The end of the checksum's field.
        offset: CompressedOffset,
        /// Which checksum.
        what: &'static str,
    },
    /// The bytes end before the stream does.
    #[error("{compression:?} data ends early, at byte {}", offset.0)]
    Truncated {
        /// The format.
        compression: Compression,
        /// How many bytes there were.
        offset: CompressedOffset,
    },
    /// Something that is neither another member or frame nor padding follows the stream.
    #[error("garbage after the {compression:?} data, at byte {}", offset.0)]
    TrailingGarbage {
        /// The format.
        compression: Compression,
        /// The first byte of it.
        offset: CompressedOffset,
    },
    /// The stream is longer than the caller allows.
    #[error("its content is longer than the limit of {limit} bytes")]
    StreamTooLong {
        /// The caller's limit, in bytes.
        limit: u64,
    },
    /// A zstd frame asks for more memory than is given to anybody.
    #[error("a zstd window of {window} bytes is above the limit of {limit}")]
    WindowTooLarge {
        /// The frame's window, in bytes.
        window: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A zstd frame was compressed with a dictionary, which no layer carries.
    #[error("the zstd frame at byte {} needs dictionary {id}, which a layer cannot carry", offset.0)]
    DictionaryNeeded {
        /// The frame's start.
        offset: CompressedOffset,
        /// The dictionary's number.
        id: u32,
    },
    /// A chunk is declared longer than any chunk may be.
    #[error("a chunk of {length} bytes is above the limit of {limit}")]
    ChunkTooLong {
        /// The declared length, in bytes of the stream.
        length: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A chunk's compressed bytes yield more or less than its declared length.
    #[error("a chunk yields {} bytes where {declared} are declared", if *more { "more" } else { "fewer" })]
    ChunkLength {
        /// The declared length, in bytes of the stream.
        declared: u64,
        /// Whether there is more than that.
        more: bool,
    },
    /// The chunk cannot start without its checkpoint, or without more of the stream before it.
    #[error("the chunk needs {needed} bytes of history, {given} were given")]
    HistoryMissing {
        /// Bytes of the stream before the chunk that are needed.
        needed: u64,
        /// Bytes that were given.
        given: u64,
    },
    /// A checkpoint record is not one that this version wrote.
    #[error("bad {compression:?} checkpoint: {reason}")]
    Checkpoint {
        /// The format of the layer.
        compression: Compression,
        /// What is wrong.
        reason: &'static str,
    },
    /// The decoder's memory could not be had.
    #[error("no memory for decoding")]
    NoMemory,
    /// The receiver of the stream gave up.
    #[error("the receiver of the stream failed")]
    Sink(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The scanner was used again after an error.
    #[error("the scan has already failed")]
    AlreadyFailed,
}

impl CodecError {
    /// Whether the bytes themselves are at fault (the layer, the chunk or its checkpoint),
    /// so that the same bytes would fail again.
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        !matches!(
            self,
            CodecError::NoMemory | CodecError::Sink(_) | CodecError::AlreadyFailed
        )
    }

    /// Whether the layer is sound so far but ended early.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        matches!(self, CodecError::Truncated { .. })
    }
}
