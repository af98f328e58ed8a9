//! Uploads of blobs: mounted from a neighbour, in one request, or in pieces.
//!
//! A large blob is sent piece by piece (distribution specification, "Pushing a blob in
//! chunks"). Where a connection breaks, the registry is asked how much it has, and the upload
//! goes on from there; where it has lost the session, or counts otherwise than we do, a new
//! session begins. What is sent is digested on the way: content that is not the blob's is
//! never completed.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use index_format::Digest;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};
use sha2::{Digest as _, Sha256};

use crate::blob::{BlobRef, BlobStream};
use crate::client::{Client, redirect_target};
use crate::error::RegistryError;
use crate::limits::{MAX_MANIFEST_BYTES, MAX_UPLOAD_PIECE_BYTES, UPLOAD_PIECE_BYTES};
use crate::manifest::DOCKER_CONTENT_DIGEST;
use crate::media;
use crate::push::announced_matches;
use crate::reference::Repository;
use crate::response::Response;
use crate::retry::delay_for;

/// The least that a registry wants in each piece but the last.
const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// The repository had it.
    WasThere,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

/// Gives a range of the blob to be uploaded; called again where an upload starts over.
pub type ContentRange<'a> = &'a (dyn Fn(Range<u64>) -> BlobStream + Send + Sync);

/// Content that is in memory.
pub fn in_memory(content: Bytes) -> impl Fn(Range<u64>) -> BlobStream + Send + Sync {
    move |range: Range<u64>| -> BlobStream {
        let part = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let piece = content.slice(part(range.start)..part(range.end));
        Box::pin(futures_util::stream::iter([Ok(piece)]))
    }
}

/// What a registry answers to the begin of an upload.
enum Begun {
    Mounted,
    Session(Session),
}

/// An upload under way at the registry.
struct Session {
    /// Where the next request of it goes.
    url: Url,
    /// Bytes a piece.
    piece_bytes: u64,
}

/// Why an upload is not complete.
enum Broken {
    /// For good.
    Failed(RegistryError),
    /// The session is of no more use; another may succeed.
    Restart(RegistryError),
}

impl Client {
    /// True when the repository has the blob.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn blob_exists(
        &self,
        repository: &Repository,
        blob: BlobRef,
    ) -> Result<bool, RegistryError> {
        let url = self.url(repository, &blob.path())?;
        let call = &self.push_call(repository, Method::HEAD, url);
        match self.repeat(call).await {
            Ok(_) => Ok(true),
            // A redirect leads to the blob; a store's signature may not cover HEAD.
            Err(error)
                if error
                    .status()
                    .is_some_and(|status| (300..400).contains(&status)) =>
            {
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Uploads a blob that is in memory, unless the repository has it.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn upload_blob(
        &self,
        repository: &Repository,
        content: Bytes,
    ) -> Result<BlobRef, RegistryError> {
        let blob = BlobRef {
            digest: Digest::of(&content),
            size: content.len() as u64,
        };
        self.upload(repository, blob, &in_memory(content), None)
            .await?;
        Ok(blob)
    }

    /// Uploads a blob, unless the repository has it. Where `from` is another repository of the
    /// same registry that has the blob, the registry is asked to take it from there.
    ///
    /// # Errors
    /// See [`RegistryError`]; `DigestMismatch` where `content` does not give that blob. The
    /// repository then has nothing of it.
    pub async fn upload(
        &self,
        repository: &Repository,
        blob: BlobRef,
        content: ContentRange<'_>,
        from: Option<&Repository>,
    ) -> Result<Uploaded, RegistryError> {
        if self.blob_exists(repository, blob).await? {
            return Ok(Uploaded::WasThere);
        }
        let neighbour = from.filter(|from| from.host() == repository.host() && *from != repository);
        let mut session = match neighbour {
            Some(from) => match self.mount(repository, blob, from).await {
                Some(Begun::Mounted) => return Ok(Uploaded::Mounted),
                Some(Begun::Session(session)) => Some(session),
                None => None,
            },
            None => None,
        };
        let mut delays = self.transport.config.retry.delays();
        loop {
            let error = match self
                .attempt(repository, blob, content, session.take())
                .await
            {
                Ok(()) => return Ok(Uploaded::Sent),
                Err(Broken::Failed(error)) => return Err(error),
                Err(Broken::Restart(error)) => error,
            };
            let Some(delay) = delay_for(&error, delays.next()) else {
                return Err(error);
            };
            self.transport.trips.retry();
            tracing::debug!(%error, ?delay, digest = %blob.digest, "an upload starts over");
            tokio::time::sleep(delay).await;
            // The answer to a completed upload can be lost as well.
            if self.blob_exists(repository, blob).await? {
                return Ok(Uploaded::Sent);
            }
        }
    }

    /// Asks the registry to take a blob from another repository. None where it will not: that
    /// is a matter of rights or of its configuration, and the bytes can be sent all the same.
    async fn mount(
        &self,
        repository: &Repository,
        blob: BlobRef,
        from: &Repository,
    ) -> Option<Begun> {
        let mut url = self.url(repository, "blobs/uploads/").ok()?;
        url.query_pairs_mut()
            .append_pair("mount", &blob.digest.to_string())
            .append_pair("from", from.name());
        match self.begin(repository, url).await {
            Ok(begun) => Some(begun),
            Err(error) => {
                tracing::debug!(%error, %from, digest = %blob.digest, "not mounted");
                None
            }
        }
    }

    async fn begin(&self, repository: &Repository, url: Url) -> Result<Begun, RegistryError> {
        let mut call = self.push_call(repository, Method::POST, url);
        call.body = Some(Bytes::new());
        let response = self.call(&call).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(Begun::Mounted);
        }
        let least = response
            .header(OCI_CHUNK_MIN_LENGTH)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        let session = Session {
            url: redirect_target(&response)?,
            piece_bytes: UPLOAD_PIECE_BYTES.max(least).min(MAX_UPLOAD_PIECE_BYTES),
        };
        drain(response).await?;
        Ok(Begun::Session(session))
    }

    /// One session from its begin to the complete blob.
    async fn attempt(
        &self,
        repository: &Repository,
        blob: BlobRef,
        content: ContentRange<'_>,
        begun: Option<Session>,
    ) -> Result<(), Broken> {
        let mut session = match begun {
            Some(session) => session,
            None => {
                let url = self
                    .url(repository, "blobs/uploads/")
                    .map_err(Broken::Failed)?;
                match self.begin(repository, url).await.map_err(Broken::from)? {
                    Begun::Session(session) => session,
                    // By the specification an answer to a mount; the blob is looked for.
                    Begun::Mounted => {
                        let at = format!("{repository}/blobs/uploads/");
                        let reason = "201 before anything was sent".to_owned();
                        return Err(Broken::Failed(RegistryError::Malformed { at, reason }));
                    }
                }
            }
        };
        let mut pieces = Pieces::new(blob, content, session.piece_bytes);
        let is_whole = blob.size <= session.piece_bytes;
        let mut piece = pieces.next().await.map_err(Broken::Failed)?;
        let mut start = 0;
        while !is_whole && !piece.is_empty() {
            let end = start + piece.len() as u64;
            let (sent, following) = tokio::join!(
                self.send_piece(repository, &mut session, start, &piece),
                pieces.next()
            );
            sent?;
            piece = following.map_err(Broken::Failed)?;
            start = end;
        }
        let at = format!("{repository}/{}", blob.path());
        if let Err(error) = pieces.verify(at) {
            self.cancel(repository, session).await;
            return Err(Broken::Failed(error));
        }
        self.complete(repository, blob, session, piece).await
    }

    /// Sends one piece, which begins at byte `start`, whatever becomes of connections.
    async fn send_piece(
        &self,
        repository: &Repository,
        session: &mut Session,
        start: u64,
        piece: &Bytes,
    ) -> Result<(), Broken> {
        let end = start + piece.len() as u64;
        let mut delays = self.transport.config.retry.delays();
        let mut at = start;
        while at < end {
            let rest = piece.slice(usize::try_from(at - start).unwrap_or(usize::MAX)..);
            let error = match self.patch(repository, session, at, rest).await {
                Ok(taken) => {
                    let taken = taken.unwrap_or(end);
                    if taken <= at || taken > end {
                        return Err(Broken::Restart(miscounted(session, at..end, taken)));
                    }
                    at = taken;
                    continue;
                }
                Err(error) => error,
            };
            // 416: it has more or less of the blob than we think.
            if !error.is_retryable() && error.status() != Some(416) {
                return Err(Broken::Failed(error));
            }
            let Some(delay) = delay_for(&error, delays.next()) else {
                return Err(Broken::Restart(error));
            };
            self.transport.trips.retry();
            tracing::debug!(%error, ?delay, at, "resuming an upload");
            tokio::time::sleep(delay).await;
            match self.taken(repository, session).await {
                Ok(taken) if (start..=end).contains(&taken) => at = taken,
                Ok(taken) => return Err(Broken::Restart(miscounted(session, at..end, taken))),
                // It is not there any more, or the registry refuses to go on with it.
                Err(reason) => {
                    tracing::debug!(%reason, "the upload session cannot be resumed");
                    return Err(Broken::Restart(error));
                }
            }
        }
        Ok(())
    }

    /// Sends bytes from `at` on; gives how many bytes the registry has then, where it says so.
    async fn patch(
        &self,
        repository: &Repository,
        session: &mut Session,
        at: u64,
        rest: Bytes,
    ) -> Result<Option<u64>, RegistryError> {
        let mut call = self.push_call(repository, Method::PATCH, session.url.clone());
        let last = at + rest.len() as u64 - 1;
        let range = HeaderValue::from_str(&format!("{at}-{last}")).expect("digits and a sign");
        call.headers.insert(CONTENT_RANGE, range);
        call.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(media::OCTET_STREAM));
        call.body = Some(rest);
        let response = self.call(&call).await?;
        session.moved(&response)?;
        let taken = range_end(&response);
        drain(response).await?;
        Ok(taken)
    }

    /// Asks how many bytes of an upload the registry has.
    async fn taken(
        &self,
        repository: &Repository,
        session: &mut Session,
    ) -> Result<u64, RegistryError> {
        let call = self.push_call(repository, Method::GET, session.url.clone());
        let response = self.repeat(&call).await?;
        session.moved(&response)?;
        let taken = range_end(&response);
        let at = response.at().to_owned();
        drain(response).await?;
        taken.ok_or_else(|| RegistryError::Malformed {
            at,
            reason: "the status of the upload has no Range".to_owned(),
        })
    }

    /// Completes an upload with its last piece.
    async fn complete(
        &self,
        repository: &Repository,
        blob: BlobRef,
        session: Session,
        last: Bytes,
    ) -> Result<(), Broken> {
        let mut url = session.url;
        url.query_pairs_mut()
            .append_pair("digest", &blob.digest.to_string());
        let mut call = self.push_call(repository, Method::PUT, url);
        call.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(media::OCTET_STREAM));
        call.body = Some(last);
        let response = self.call(&call).await.map_err(Broken::from)?;
        let announced = response.header(DOCKER_CONTENT_DIGEST);
        announced_matches(announced, response.at(), blob.digest).map_err(Broken::Failed)
    }

    /// Tells the registry to forget an upload; one that does not is left to its own cleaning.
    async fn cancel(&self, repository: &Repository, session: Session) {
        let call = self.push_call(repository, Method::DELETE, session.url);
        if let Err(error) = self.call(&call).await {
            tracing::debug!(%error, "an upload was not cancelled");
        }
    }
}

impl Session {
    /// Every answer says where the next request goes; one that does not means the same place.
    fn moved(&mut self, response: &Response) -> Result<(), RegistryError> {
        if response.headers().contains_key(LOCATION) {
            self.url = redirect_target(response)?;
        }
        Ok(())
    }
}

impl From<RegistryError> for Broken {
    fn from(error: RegistryError) -> Self {
        match error.is_retryable() {
            true => Self::Restart(error),
            false => Self::Failed(error),
        }
    }
}

fn miscounted(session: &Session, sent: Range<u64>, taken: u64) -> RegistryError {
    RegistryError::Malformed {
        at: crate::host::shown(&session.url),
        reason: format!(
            "bytes {}..{} were sent, the registry counts {taken}",
            sent.start, sent.end
        ),
    }
}

/// The end of the bytes that a registry has, by `Range: 0-LAST`. A single byte and none at all
/// are both `0-0` to some registries: it is taken for none, and sent again.
fn range_end(response: &Response) -> Option<u64> {
    let value = response.header(RANGE)?;
    let value = value.strip_prefix("bytes=").unwrap_or(value);
    let (first, last) = value.split_once('-')?;
    match (first.trim().parse(), last.trim().parse::<u64>()) {
        (Ok(0_u64), Ok(0)) => Some(0),
        (Ok(0), Ok(last)) => last.checked_add(1),
        _ => None,
    }
}

/// Reads what is left of a response, so that its connection can carry the next request.
async fn drain(response: Response) -> Result<(), RegistryError> {
    response.bytes(MAX_MANIFEST_BYTES).await.map(drop)
}

/// A blob's content in pieces of one size, digested as it passes.
struct Pieces {
    blob: BlobRef,
    stream: BlobStream,
    hasher: Sha256,
    /// What the stream gave beyond the last piece.
    rest: Bytes,
    piece_bytes: u64,
    given: u64,
}

impl Pieces {
    fn new(blob: BlobRef, content: ContentRange<'_>, piece_bytes: u64) -> Self {
        Self {
            blob,
            stream: content(0..blob.size),
            hasher: Sha256::new(),
            rest: Bytes::new(),
            piece_bytes,
            given: 0,
        }
    }

    /// The next piece, empty at the end.
    async fn next(&mut self) -> Result<Bytes, RegistryError> {
        let wanted = self.piece_bytes.min(self.blob.size - self.given);
        let wanted = usize::try_from(wanted).expect("a piece is bounded");
        let mut piece = BytesMut::with_capacity(wanted);
        while piece.len() < wanted {
            if self.rest.is_empty() {
                match self.stream.try_next().await? {
                    Some(bytes) => self.rest = bytes,
                    None => break,
                }
            }
            let taken = self.rest.len().min(wanted - piece.len());
            piece.extend_from_slice(&self.rest.split_to(taken));
        }
        self.hasher.update(&piece);
        self.given += piece.len() as u64;
        Ok(piece.freeze())
    }

    /// Whether all that was given is the blob.
    fn verify(self, at: String) -> Result<(), RegistryError> {
        if self.given != self.blob.size {
            return Err(RegistryError::ShortBody {
                at,
                got: self.given,
                expected: self.blob.size,
            });
        }
        let actual = Digest::from_bytes(self.hasher.finalize().into());
        match actual == self.blob.digest {
            true => Ok(()),
            false => Err(RegistryError::DigestMismatch {
                at,
                expected: self.blob.digest,
                actual,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
