//! Why a read of a layer has no answer.

use std::ops::Range;
use std::sync::Arc;

use index_format::{Digest, FormatError};
use nix::errno::Errno;

use brisk_blob::BlobError;

use super::CheckpointError;

/// A read that cannot be answered. Never a short or a zero-filled answer instead.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The bytes that arrived do not match the index, and fetching them anew did not help.
    #[error("leaf {leaf} of layer {layer} does not match its digest")]
    Corrupt {
        /// The layer.
        layer: Digest,
        /// The leaf.
        leaf: u64,
    },
    /// The whole layer turned out not to be what its index says.
    #[error("the index of layer {layer} is wrong: the layer's diff ID does not match")]
    Poisoned {
        /// The layer.
        layer: Digest,
    },
    /// The blob could not be read, for as long as the outage policy allows.
    #[error("layer {layer} cannot be fetched: {source}")]
    Unavailable {
        /// The layer.
        layer: Digest,
        /// The last failure.
        source: Arc<BlobError>,
    },
    /// The decoder's checkpoints could not be had.
    #[error("the checkpoints of layer {layer} cannot be had: {source}")]
    Checkpoints {
        /// The layer.
        layer: Digest,
        /// The last failure.
        source: Arc<CheckpointError>,
    },
    /// The index contradicts itself.
    #[error("the index of layer {layer} is damaged: {source}")]
    Index {
        /// The layer.
        layer: Digest,
        /// What is wrong.
        source: FormatError,
    },
    /// A chunk is so long that the layer can only be fetched whole.
    #[error("chunk {chunk} of layer {layer} is too long to be fetched on its own")]
    ChunkTooLong {
        /// The layer.
        layer: Digest,
        /// The chunk's number.
        chunk: u32,
    },
    /// The range is not within the stream.
    #[error("bytes {}..{} of layer {layer}, whose stream has {size}", .range.start, .range.end)]
    OutOfRange {
        /// The layer.
        layer: Digest,
        /// What was asked for.
        range: Range<u64>,
        /// The stream's size in bytes.
        size: u64,
    },
    /// The merged index names a layer that the image does not have.
    #[error("layer number {number} of {count}")]
    NoSuchLayer {
        /// The number.
        number: u32,
        /// How many there are.
        count: usize,
    },
    /// The service is stopping.
    #[error("layer {layer} is not read any more: the service is stopping")]
    Stopping {
        /// The layer.
        layer: Digest,
    },
}

impl ReadError {
    /// What the reading process gets.
    pub fn errno(&self) -> Errno {
        match self {
            ReadError::Corrupt { .. }
            | ReadError::Poisoned { .. }
            | ReadError::Unavailable { .. }
            | ReadError::Checkpoints { .. }
            | ReadError::Index { .. }
            | ReadError::ChunkTooLong { .. }
            | ReadError::OutOfRange { .. }
            | ReadError::NoSuchLayer { .. }
            | ReadError::Stopping { .. } => Errno::EIO,
        }
    }

    /// What arrived was wrong, not absent: waiting will not help.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, ReadError::Corrupt { .. } | ReadError::Poisoned { .. })
    }

    /// The chunks of the layer cannot be had one by one, so it has to be decoded from its start.
    pub(super) fn asks_for_streaming(&self) -> bool {
        match self {
            ReadError::ChunkTooLong { .. } => true,
            ReadError::Checkpoints { source, .. } => !source.is_retryable(),
            _ => false,
        }
    }

    /// The network or the other side kept the bytes away.
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            ReadError::Unavailable { .. } | ReadError::Checkpoints { .. }
        )
    }
}
