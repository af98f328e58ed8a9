//! The push side, as far as publishing indexes needs it: blobs, manifests, referrers.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::auth_slot::Action;
use crate::blob::BlobRef;
use crate::client::{Call, Client, redirect_target};
use crate::error::RegistryError;
use crate::limits::MAX_MANIFEST_BYTES;
use crate::manifest::{DOCKER_CONTENT_DIGEST, ManifestTarget};
use crate::media;
use crate::reference::Repository;
use index_format::Digest;

/// Set by a registry that lists a pushed manifest under its subject by itself.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

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
        let result = self.repeat(call).await;
        match result {
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

    /// Uploads a blob, unless the repository has it.
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
        if self.blob_exists(repository, blob).await? {
            return Ok(blob);
        }
        let content = &content;
        let transport = &self.transport;
        // A failed upload starts over: what the server kept of it is not known.
        transport
            .config
            .retry
            .run(&transport.trips, || {
                self.upload_once(repository, blob, content.clone())
            })
            .await?;
        Ok(blob)
    }

    async fn upload_once(
        &self,
        repository: &Repository,
        blob: BlobRef,
        content: Bytes,
    ) -> Result<(), RegistryError> {
        let url = self.url(repository, "blobs/uploads/")?;
        let mut call = self.push_call(repository, Method::POST, url);
        call.body = Some(Bytes::new());
        let session = self.call(&call).await?;
        let mut url = redirect_target(&session)?;
        // Drained, so that the connection can carry the upload.
        session.bytes(MAX_MANIFEST_BYTES).await?;
        url.query_pairs_mut()
            .append_pair("digest", &blob.digest.to_string());
        let mut call = self.push_call(repository, Method::PUT, url);
        call.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(media::OCTET_STREAM));
        call.body = Some(content);
        let response = self.call(&call).await?;
        announced_matches(
            response.header(DOCKER_CONTENT_DIGEST),
            response.at(),
            blob.digest,
        )
    }

    /// Uploads a manifest under a tag or its digest. Returns its digest, and whether the
    /// registry lists it under its subject by itself.
    ///
    /// # Errors
    /// See [`RegistryError`]; `TooLarge` above the limit that registries have.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        target: &ManifestTarget,
        media_type: &str,
        content: Bytes,
    ) -> Result<(Digest, bool), RegistryError> {
        let url = self.url(repository, &target.path())?;
        let at = || format!("{repository}/{}", target.path());
        if content.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(RegistryError::TooLarge {
                at: at(),
                limit: MAX_MANIFEST_BYTES,
            });
        }
        let digest = Digest::of(&content);
        if let Some(expected) = target.digest()
            && expected != digest
        {
            return Err(RegistryError::DigestMismatch {
                at: at(),
                expected,
                actual: digest,
            });
        }
        let mut call = self.push_call(repository, Method::PUT, url);
        let value =
            HeaderValue::from_str(media_type).map_err(|error| RegistryError::Malformed {
                at: at(),
                reason: format!("{media_type:?}: {error}"),
            })?;
        call.headers.insert(CONTENT_TYPE, value);
        call.body = Some(content);
        let response = self.repeat(&call).await?;
        announced_matches(
            response.header(DOCKER_CONTENT_DIGEST),
            response.at(),
            digest,
        )?;
        Ok((digest, response.headers().contains_key(OCI_SUBJECT)))
    }

    /// Uploads a manifest that has a subject, and sees to it that it is found there: where
    /// the registry does not list it by itself, the fallback tag is updated.
    ///
    /// # Errors
    /// See [`RegistryError`]; `Malformed` for a manifest without a sha256 subject.
    pub async fn push_referrer(
        &self,
        repository: &Repository,
        media_type: &str,
        content: Bytes,
    ) -> Result<Digest, RegistryError> {
        let digest = Digest::of(&content);
        let target = ManifestTarget::Digest(digest);
        let at = || format!("{repository}/{}", target.path());
        let document = Referrer::parse(&content)
            .map_err(|reason| RegistryError::Malformed { at: at(), reason })?;
        let subject = document
            .subject_digest()
            .ok_or_else(|| RegistryError::Malformed {
                at: at(),
                reason: "the manifest has no sha256 subject".to_owned(),
            })?;
        let size = content.len() as u64;
        let (digest, listed) = self
            .put_manifest(repository, &target, media_type, content)
            .await?;
        if !listed {
            let entry = document.entry(media_type, digest, size);
            self.add_to_fallback_tag(repository, subject, digest, entry)
                .await?;
        }
        Ok(digest)
    }

    fn push_call<'a>(&self, repository: &'a Repository, method: Method, url: Url) -> Call<'a> {
        Call {
            repository,
            action: Action::Push,
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            blob: None,
        }
    }
}

fn announced_matches(
    announced: Option<&str>,
    at: &str,
    actual: Digest,
) -> Result<(), RegistryError> {
    match announced {
        Some(announced) if announced.starts_with("sha256:") && announced != actual.to_string() => {
            let announced = announced.to_owned();
            Err(RegistryError::AnnouncedDigest {
                at: at.to_owned(),
                announced,
                actual,
            })
        }
        _ => Ok(()),
    }
}

/// The parts of a manifest that its entry in a referrers list is made from.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Referrer {
    subject: Option<Subject>,
    artifact_type: Option<String>,
    config: Option<ConfigType>,
    annotations: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
struct Subject {
    digest: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigType {
    media_type: Option<String>,
}

impl Referrer {
    pub(super) fn parse(document: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(document).map_err(|error| format!("not a manifest: {error}"))
    }

    pub(super) fn subject_digest(&self) -> Option<Digest> {
        self.subject.as_ref()?.digest.parse().ok()
    }

    /// The descriptor of this manifest in a referrers list (distribution specification,
    /// "Pushing Manifests with Subject"): an artifact without type has its config's.
    pub(super) fn entry(&self, media_type: &str, digest: Digest, size: u64) -> serde_json::Value {
        let mut entry = serde_json::json!({
            "mediaType": media_type,
            "digest": digest.to_string(),
            "size": size,
        });
        let config_type = || {
            self.config
                .as_ref()
                .and_then(|config| config.media_type.clone())
        };
        let own_type = self.artifact_type.clone().filter(|own| !own.is_empty());
        if let Some(artifact_type) = own_type.or_else(config_type) {
            entry["artifactType"] = artifact_type.into();
        }
        if let Some(annotations) = &self.annotations {
            entry["annotations"] = annotations.clone().into();
        }
        entry
    }
}

#[cfg(test)]
mod tests;
