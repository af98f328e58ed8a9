//! Why a layer could not be indexed.

use std::io;

use index_format::{FormatError, TreeError, WriteError};

use crate::tar::TarError;
use brisk_codec::CodecError;

/// Why a layer could not be indexed, or an index not be compared.
#[derive(Debug, thiserror::Error)]
pub enum IndexerError {
    /// The compressed layer is damaged, cut off, or longer than allowed.
    #[error(transparent)]
    Codec(CodecError),
    /// The stream is no acceptable tar.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry that cannot be part of a tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The layer makes more inodes than allowed.
    #[error("the layer has more than {limit} inodes")]
    TooManyInodes {
        /// The limit.
        limit: u32,
    },
    /// A whiteout that would remove its own directory, or nothing.
    #[error("{:?} is no valid whiteout: the layer is refused", String::from_utf8_lossy(.path))]
    Whiteout {
        /// The whiteout's path.
        path: Vec<u8>,
    },
    /// The index could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The index that is compared with its layer is damaged.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The index's stream is not the tar, so there is nothing to compare it with.
    #[error("an index made from a table of contents cannot be compared with the tar")]
    TocLayout,
    /// The caller's sink failed.
    #[error("writing the layer's stream: {0}")]
    Sink(#[source] io::Error),
    /// The layer could not be read.
    #[error("reading the layer: {0}")]
    Read(#[source] io::Error),
    /// The system has no thread or no memory left.
    #[error("starting to index a layer: {0}")]
    Start(#[source] io::Error),
    /// The indexer was fed after an error.
    #[error("the indexing has already failed")]
    AlreadyFailed,
}

impl IndexerError {
    /// Whether the layer itself is at fault, so that the same bytes would fail again.
    #[must_use]
    pub fn is_bad_layer(&self) -> bool {
        match self {
            IndexerError::Codec(error) => error.is_bad_data(),
            IndexerError::Tar(_)
            | IndexerError::Tree(_)
            | IndexerError::TooManyInodes { .. }
            | IndexerError::Whiteout { .. }
            | IndexerError::Write(_) => true,
            IndexerError::Format(_)
            | IndexerError::TocLayout
            | IndexerError::Sink(_)
            | IndexerError::Read(_)
            | IndexerError::Start(_)
            | IndexerError::AlreadyFailed => false,
        }
    }

    /// Whether the stream is longer than the caller allows: a decompression bomb, or a wrong
    /// declaration.
    #[must_use]
    pub fn is_stream_too_long(&self) -> bool {
        matches!(self, IndexerError::Codec(CodecError::StreamTooLong { .. }))
    }
}

impl From<CodecError> for IndexerError {
    /// An error of ours that went through the scanner's sink comes out as what it was.
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Sink(inner) => match inner.downcast::<IndexerError>() {
                Ok(ours) => *ours,
                Err(other) => IndexerError::Codec(CodecError::Sink(other)),
            },
            other => IndexerError::Codec(other),
        }
    }
}
