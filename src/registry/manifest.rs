//! Manifests: read with every limit and check, verified by digest before anyone parses them.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::auth_slot::Action;
use crate::client::Client;
use crate::error::RegistryError;
use crate::limits::MAX_MANIFEST_BYTES;
use crate::media;
use crate::reference::{Reference, Repository};
use crate::response::Response;
use index_format::Digest;

/// The registry's own idea of the digest (distribution specification).
pub(super) const DOCKER_CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ManifestTarget {
    /// Whatever the tag points to.
    Tag(String),
    /// Exactly this one.
    Digest(Digest),
}

impl ManifestTarget {
    /// The digest, where the content is fixed.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Digest(digest) => Some(*digest),
            Self::Tag(_) => None,
        }
    }

    pub(super) fn path(&self) -> String {
        match self {
            Self::Tag(tag) => format!("manifests/{tag}"),
            Self::Digest(digest) => format!("manifests/{digest}"),
        }
    }
}

/// A manifest or image index, as it was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The media type that the server and the document agree on.
    pub media_type: String,
    /// The document.
    pub bytes: Bytes,
}

impl Client {
    /// Reads the manifest that a reference names: by its digest where it has one, else by
    /// its tag.
    ///
    /// # Errors
    /// See [`RegistryError`]; [`RegistryError::is_not_found`] when it does not exist, and
    /// `DigestMismatch` when the content is not that of the digest.
    pub async fn manifest(&self, reference: &Reference) -> Result<Manifest, RegistryError> {
        self.manifest_at(reference.repository(), &reference.target())
            .await
    }

    /// Reads one manifest of a repository.
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub async fn manifest_at(
        &self,
        repository: &Repository,
        target: &ManifestTarget,
    ) -> Result<Manifest, RegistryError> {
        let read = self.manifest_and_headers(repository, target, Action::Pull);
        let (manifest, _) = read.await?;
        Ok(manifest)
    }

    /// The same with the headers of the answer. What is read to be written again has the action
    /// of the writing, so that it is read at the same server.
    pub(super) async fn manifest_and_headers(
        &self,
        repository: &Repository,
        target: &ManifestTarget,
        action: Action,
    ) -> Result<(Manifest, HeaderMap), RegistryError> {
        let mut call = self.get(repository, &target.path())?;
        call.action = action;
        call.headers
            .insert(ACCEPT, HeaderValue::from_static(media::ACCEPT_MANIFEST));
        let call = &call;
        let transport = &self.transport;
        transport
            .config
            .retry
            .run(&transport.trips, || async move {
                let response = self.call(call).await?;
                let headers = response.headers().clone();
                Ok((read_manifest(response, target.digest()).await?, headers))
            })
            .await
    }

    /// True when the repository has the manifest, so that it needs no upload: the registry
    /// itself is asked, not its mirrors.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn manifest_exists(
        &self,
        repository: &Repository,
        target: &ManifestTarget,
    ) -> Result<bool, RegistryError> {
        let url = self.url(repository, &target.path())?;
        let mut call = self.push_call(repository, Method::HEAD, url);
        call.headers
            .insert(ACCEPT, HeaderValue::from_static(media::ACCEPT_MANIFEST));
        match self.repeat(&call).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

async fn read_manifest(
    response: Response,
    expected: Option<Digest>,
) -> Result<Manifest, RegistryError> {
    let at = response.at().to_owned();
    let content_type = response.header(CONTENT_TYPE).map(str::to_owned);
    let announced = response.header(DOCKER_CONTENT_DIGEST).map(str::to_owned);
    let bytes = response.bytes(MAX_MANIFEST_BYTES).await?;
    let digest = Digest::of(&bytes);
    if let Some(expected) = expected
        && expected != digest
    {
        return Err(RegistryError::DigestMismatch {
            at,
            expected,
            actual: digest,
        });
    }
    // A digest of another algorithm says nothing about ours.
    if let Some(announced) = announced
        && announced.starts_with("sha256:")
        && announced != digest.to_string()
    {
        return Err(RegistryError::AnnouncedDigest {
            at,
            announced,
            actual: digest,
        });
    }
    let media_type = media_type(&bytes, content_type.as_deref())
        .map_err(|reason| RegistryError::Malformed { at, reason })?;
    Ok(Manifest {
        digest,
        media_type,
        bytes,
    })
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

/// The media type of a manifest document. Where the server names one and the document
/// another, or the document could be read as both kinds, what it means would depend on who
/// reads it, so it is refused (image specification 1.0.2, on `mediaType`).
pub(super) fn media_type(document: &[u8], content_type: Option<&str>) -> Result<String, String> {
    let typed: Typed = serde_json::from_slice(document)
        .map_err(|error| format!("the manifest is not a JSON object: {error}"))?;
    let listing = typed.manifests.is_some();
    let single = typed.layers.is_some() || typed.config.is_some();
    if listing && single {
        return Err("the document has the parts of an image and of an image index".to_owned());
    }
    let served = content_type
        .map(|value| {
            value
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase()
        })
        .filter(|value| media::is_index(value) || media::is_manifest(value));
    match (typed.media_type, served) {
        (Some(own), Some(served)) if own != served => Err(format!(
            "the manifest says it is {own:?}, the server says {served:?}"
        )),
        (Some(own), _) => Ok(own),
        (None, Some(served)) => Ok(served),
        // The field is optional in OCI documents.
        (None, None) if listing => Ok(media::OCI_INDEX.to_owned()),
        (None, None) if single => Ok(media::OCI_MANIFEST.to_owned()),
        (None, None) => Err(format!(
            "not a manifest of a supported kind (Content-Type {content_type:?}); an image of \
             Docker schema 1 must be pushed again by a current tool"
        )),
    }
}

#[cfg(test)]
mod tests;
