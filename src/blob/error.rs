//! Errors of blobs.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use brisk_registry::RegistryError;

/// Why bytes of a blob could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The registry's client failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A local file could not be read.
    #[error("cannot read bytes {}..{} of {path}", .range.start, .range.end)]
    File {
        /// The file.
        path: PathBuf,
        /// The bytes asked for.
        range: Range<u64>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The bytes asked for are not all within the blob.
    #[error("bytes {}..{} of {blob}, which has {size}", .range.start, .range.end)]
    OutOfRange {
        /// The blob's name.
        blob: String,
        /// The bytes asked for.
        range: Range<u64>,
        /// The blob's size in bytes.
        size: u64,
    },
    /// The answer has another length than the range.
    #[error("{got} bytes arrived for bytes {}..{} of {blob}", .range.start, .range.end)]
    Length {
        /// The blob's name.
        blob: String,
        /// The bytes asked for.
        range: Range<u64>,
        /// How many came.
        got: u64,
    },
    /// Nothing came within the limit.
    #[error("bytes {}..{} of {blob} did not arrive within {after:?}", .range.start, .range.end)]
    TimedOut {
        /// The blob's name.
        blob: String,
        /// The bytes asked for.
        range: Range<u64>,
        /// The limit.
        after: Duration,
    },
}

impl BlobError {
    /// The same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            // A credential can come back: the helper that gives it may itself need the network.
            BlobError::Registry(error) => error.is_retryable() || error.is_unauthorized(),
            BlobError::Length { .. } | BlobError::TimedOut { .. } => true,
            BlobError::File { .. } | BlobError::OutOfRange { .. } => false,
        }
    }

    /// The blob does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            BlobError::Registry(error) => error.is_not_found(),
            BlobError::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// How long the other side asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            BlobError::Registry(error) => error.retry_after(),
            _ => None,
        }
    }
}
