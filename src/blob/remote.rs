//! A blob in a registry.

use std::ops::Range;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};

use brisk_registry::{BlobRef, Client, Repository};

use super::{Blob, BlobError, Timed, check_range};

/// A blob of one repository, read through the registry's client.
#[derive(Debug, Clone)]
pub struct RemoteBlob {
    client: Client,
    repository: Repository,
    blob: BlobRef,
}

impl RemoteBlob {
    /// Names the blob; nothing is sent yet.
    pub fn new(client: Client, repository: Repository, blob: BlobRef) -> RemoteBlob {
        RemoteBlob {
            client,
            repository,
            blob,
        }
    }

    async fn read(&self, range: Range<u64>) -> Result<Timed, BlobError> {
        check_range(&self.name(), &range, self.blob.size)?;
        let start = Instant::now();
        let mut first_byte = None;
        let mut pieces = self
            .client
            .blob_stream(&self.repository, self.blob, range.clone());
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.try_next().await? {
            if first_byte.is_none() {
                first_byte = Some(start.elapsed());
                bytes.reserve((range.end - range.start) as usize);
            }
            bytes.extend_from_slice(&piece);
        }
        let got = bytes.len() as u64;
        if got != range.end - range.start {
            return Err(BlobError::Length {
                blob: self.name(),
                range,
                got,
            });
        }
        Ok(Timed {
            bytes: bytes.freeze(),
            first_byte,
        })
    }
}

impl Blob for RemoteBlob {
    fn name(&self) -> String {
        format!("{}@{}", self.repository, self.blob.digest)
    }

    fn size(&self) -> u64 {
        self.blob.size
    }

    fn read_at(&self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        Box::pin(async { Ok(self.read(range).await?.bytes) })
    }

    fn read_timed(&self, range: Range<u64>) -> BoxFuture<'_, Result<Timed, BlobError>> {
        Box::pin(self.read(range))
    }

    fn stream(&self, range: Range<u64>) -> BoxStream<'_, Result<Bytes, BlobError>> {
        if let Err(error) = check_range(&self.name(), &range, self.blob.size) {
            return futures_util::stream::iter([Err(error)]).boxed();
        }
        self.client
            .blob_stream(&self.repository, self.blob, range)
            .map_err(BlobError::from)
            .boxed()
    }
}
