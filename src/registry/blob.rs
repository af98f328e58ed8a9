//! Blobs: whole and verified, by range, and as streams that survive a lost connection.

use std::ops::Range;

use backon::ExponentialBackoff;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, try_unfold};
use reqwest::header::{ACCEPT_ENCODING, HeaderValue, RANGE};

use crate::client::Client;
use crate::content_range::RangeBody;
use crate::error::RegistryError;
use crate::host::shown;
use crate::limits::{MAX_RANGE_BYTES, MAX_WHOLE_BLOB_BYTES, RESUME_PROGRESS_BYTES};
use crate::reference::Repository;
use crate::retry::delay_for;
use index_format::Digest;

/// A blob as a descriptor names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlobRef {
    /// Digest of the whole blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Bytes of a blob in order. Ends after the last wanted byte or with the first error.
pub type BlobStream = BoxStream<'static, Result<Bytes, RegistryError>>;

impl BlobRef {
    pub(super) fn path(&self) -> String {
        format!("blobs/{}", self.digest)
    }

    /// Checks a range against the blob and a limit.
    pub(super) fn check(
        &self,
        wanted: &Range<u64>,
        limit: u64,
        at: impl FnOnce() -> String,
    ) -> Result<usize, RegistryError> {
        let length = wanted
            .end
            .checked_sub(wanted.start)
            .filter(|length| *length <= limit);
        match length.and_then(|length| usize::try_from(length).ok()) {
            Some(length) if wanted.end <= self.size => Ok(length),
            _ => Err(RegistryError::InvalidRange {
                at: at(),
                wanted: wanted.clone(),
                size: self.size,
            }),
        }
    }

    /// Checks a whole blob's content.
    pub(super) fn verify(
        &self,
        bytes: &[u8],
        at: impl FnOnce() -> String,
    ) -> Result<(), RegistryError> {
        let actual = Digest::of(bytes);
        if actual == self.digest {
            return Ok(());
        }
        Err(RegistryError::DigestMismatch {
            at: at(),
            expected: self.digest,
            actual,
        })
    }
}

impl Client {
    /// Reads a whole blob of at most [`MAX_WHOLE_BLOB_BYTES`], verified by size and digest.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn blob(
        &self,
        repository: &Repository,
        blob: BlobRef,
    ) -> Result<Bytes, RegistryError> {
        let at = || format!("{repository}/{}", blob.path());
        if blob.size > MAX_WHOLE_BLOB_BYTES {
            return Err(RegistryError::TooLarge {
                at: at(),
                limit: MAX_WHOLE_BLOB_BYTES,
            });
        }
        let bytes = self.collect(repository, blob, 0..blob.size).await?;
        blob.verify(&bytes, at)?;
        Ok(bytes)
    }

    /// Reads a range of at most [`MAX_RANGE_BYTES`]. Not verified: the caller knows digests
    /// of parts, this client does not.
    ///
    /// # Errors
    /// See [`RegistryError`]; [`RegistryError::is_range_unsupported`] when the server serves
    /// whole blobs only.
    pub async fn blob_range(
        &self,
        repository: &Repository,
        blob: BlobRef,
        wanted: Range<u64>,
    ) -> Result<Bytes, RegistryError> {
        blob.check(&wanted, MAX_RANGE_BYTES, || {
            format!("{repository}/{}", blob.path())
        })?;
        self.collect(repository, blob, wanted).await
    }

    /// Streams a range of a blob, the whole of it included. A lost connection is resumed
    /// where it broke. Not verified, as [`Client::blob_range`]: whoever takes all of the
    /// stream can digest it.
    pub fn blob_stream(
        &self,
        repository: &Repository,
        blob: BlobRef,
        wanted: Range<u64>,
    ) -> BlobStream {
        let checked = blob.check(&wanted, u64::MAX, || {
            format!("{repository}/{}", blob.path())
        });
        if let Err(error) = checked {
            return futures_util::stream::iter([Err(error)]).boxed();
        }
        let reader = RangeReader::new(self.clone(), repository.clone(), blob, wanted);
        try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|chunk| (chunk, reader)))
        })
        .boxed()
    }

    async fn collect(
        &self,
        repository: &Repository,
        blob: BlobRef,
        wanted: Range<u64>,
    ) -> Result<Bytes, RegistryError> {
        let length = usize::try_from(wanted.end - wanted.start).expect("checked against a limit");
        let mut reader = RangeReader::new(self.clone(), repository.clone(), blob, wanted);
        let mut bytes = BytesMut::with_capacity(length);
        while let Some(chunk) = reader.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }
}

/// Reads a range through as many responses as it takes.
#[derive(Debug)]
struct RangeReader {
    client: Client,
    repository: Repository,
    blob: BlobRef,
    /// The bytes still to come.
    rest: Range<u64>,
    body: Option<RangeBody>,
    delays: ExponentialBackoff,
    /// Bytes since the attempts were last counted from the start.
    progress: u64,
}

impl RangeReader {
    fn new(client: Client, repository: Repository, blob: BlobRef, wanted: Range<u64>) -> Self {
        let delays = client.transport.config.retry.delays();
        Self {
            client,
            repository,
            blob,
            rest: wanted,
            body: None,
            delays,
            progress: 0,
        }
    }

    /// The next bytes, after as many attempts as the policy allows; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let error = match self.advance().await {
                Ok(chunk) => return Ok(chunk),
                Err(error) => error,
            };
            self.body = None;
            if !error.is_retryable() {
                return Err(error);
            }
            if self.progress >= RESUME_PROGRESS_BYTES {
                self.delays = self.client.transport.config.retry.delays();
                self.progress = 0;
            }
            let Some(delay) = delay_for(&error, self.delays.next()) else {
                return Err(error);
            };
            self.client.transport.trips.retry();
            tracing::debug!(%error, ?delay, at = self.rest.start, "resuming a blob");
            tokio::time::sleep(delay).await;
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if self.body.is_none() && self.rest.is_empty() {
            return Ok(None);
        }
        let body = match &mut self.body {
            Some(body) => body,
            empty => {
                let opened = open(&self.client, &self.repository, self.blob, &self.rest).await?;
                empty.insert(opened)
            }
        };
        let chunk = body.next().await?;
        match &chunk {
            Some(chunk) => {
                self.rest.start += chunk.len() as u64;
                self.progress += chunk.len() as u64;
            }
            None => self.body = None,
        }
        Ok(chunk)
    }
}

/// Asks for one range and checks what begins to come.
async fn open(
    client: &Client,
    repository: &Repository,
    blob: BlobRef,
    wanted: &Range<u64>,
) -> Result<RangeBody, RegistryError> {
    let mut call = client.get(repository, &blob.path())?;
    call.blob = Some(blob.digest);
    // A store that compresses on the way would count other bytes than the digest does.
    call.headers
        .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // The whole blob is asked for without a range: every server can do that.
    if *wanted != (0..blob.size) {
        let range = format!("bytes={}-{}", wanted.start, wanted.end - 1);
        let value = HeaderValue::from_str(&range).expect("digits and signs");
        call.headers.insert(RANGE, value);
    }
    match client.call(&call).await {
        Ok(response) => RangeBody::new(response, wanted, blob.size),
        Err(RegistryError::Status {
            at, status: 416, ..
        }) => Err(RegistryError::WrongRange {
            at,
            wanted: wanted.clone(),
            size: blob.size,
            got: format!("416, so its blob at {} is shorter", shown(&call.url)),
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
