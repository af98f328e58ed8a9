//! Compressed layers and other blobs by range, wherever they lie.
//!
//! A blob's bytes are unverified here: whoever reads parts of it knows their digests.

mod error;
mod file;
mod remote;

#[cfg(feature = "faulty")]
pub mod faulty;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub use error::BlobError;
pub use file::FileBlob;
pub use remote::RemoteBlob;

/// Bytes, and how long the first of them took.
#[derive(Debug, Clone)]
pub struct Timed {
    /// Exactly the bytes of the range.
    pub bytes: Bytes,
    /// From the call to the first byte, where that says something about the link.
    pub first_byte: Option<Duration>,
}

/// Bytes of known number that can be read by range.
pub trait Blob: fmt::Debug + Send + Sync {
    /// What the blob is called in messages: a digest, a path.
    fn name(&self) -> String;

    /// Number of bytes.
    fn size(&self) -> u64;

    /// Exactly the bytes of the range.
    ///
    /// # Errors
    /// A range that is not within the blob, and whatever keeps its bytes from arriving; never
    /// fewer bytes.
    fn read_at(&self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, BlobError>>;

    /// As `read_at`, with the time to the first byte where it is known: it tells how far away
    /// the blob is.
    fn read_timed(&self, range: Range<u64>) -> BoxFuture<'_, Result<Timed, BlobError>> {
        Box::pin(async {
            Ok(Timed {
                bytes: self.read_at(range).await?,
                first_byte: None,
            })
        })
    }

    /// As `read_at`, for bytes that turned out wrong: past whatever keeps copies on the way,
    /// where the blob knows a way past it.
    fn reread_at(&self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        self.read_at(range)
    }

    /// The bytes of the range in order, in pieces as they arrive.
    fn stream(&self, range: Range<u64>) -> BoxStream<'_, Result<Bytes, BlobError>>;
}

/// Refuses ranges that are not within a blob of this size.
fn check_range(name: &str, range: &Range<u64>, size: u64) -> Result<(), BlobError> {
    if range.start > range.end || range.end > size {
        return Err(BlobError::OutOfRange {
            blob: name.to_owned(),
            range: range.clone(),
            size,
        });
    }
    Ok(())
}
