//! Manifests and referrers, written.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::auth_slot::Action;
use crate::client::{Call, Client};
use crate::error::RegistryError;
use crate::fallback::Change;
use crate::limits::MAX_MANIFEST_BYTES;
use crate::manifest::{DOCKER_CONTENT_DIGEST, ManifestTarget};
use crate::reference::Repository;
use index_format::Digest;

/// A manifest that is refused is sent again so many times: while another client uploads the
/// same blob, docker-registry (2.8, file system driver) reads a half-written link to it, and
/// answers 400 to manifests that name the blob.
const MANIFEST_RACES: usize = 3;

/// Set by a registry that lists a pushed manifest under its subject by itself.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Client {
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
        let mut delays = self.transport.config.retry.delays();
        for _ in 0..MANIFEST_RACES {
            let content = content.clone();
            let put = self.put_manifest_if(repository, target, media_type, content, None);
            match put.await {
                Err(error) if matches!(error.status(), Some(400 | 404)) => {
                    tracing::debug!(%error, %repository, "a manifest is refused, trying again");
                    tokio::time::sleep(delays.next().unwrap_or_default()).await;
                }
                other => return other,
            }
        }
        self.put_manifest_if(repository, target, media_type, content, None)
            .await
    }

    /// The same under a condition (RFC 9110, 13.1), where one is given: a registry that honours
    /// it answers 412 where it does not hold.
    pub(super) async fn put_manifest_if(
        &self,
        repository: &Repository,
        target: &ManifestTarget,
        media_type: &str,
        content: Bytes,
        condition: Option<(HeaderName, HeaderValue)>,
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
        call.headers.extend(condition);
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
        let (subject, entry) =
            referrer_entry(media_type, &content).map_err(|reason| RegistryError::Malformed {
                at: format!("{repository}/{}", target.path()),
                reason,
            })?;
        let (digest, listed) = self
            .put_manifest(repository, &target, media_type, content)
            .await?;
        if !listed {
            self.change_fallback_tag(repository, subject, &Change::Add(digest, entry))
                .await?;
        }
        Ok(digest)
    }

    /// A writing request, without headers and body.
    pub(super) fn push_call<'a>(
        &self,
        repository: &'a Repository,
        method: Method,
        url: Url,
    ) -> Call<'a> {
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

/// Holds the digest that a registry announces against the content's.
pub(super) fn announced_matches(
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

/// The subject of a manifest, and the manifest's entry in a list of the subject's referrers.
///
/// # Errors
/// In words, for a manifest without a sha256 subject.
pub fn referrer_entry(
    media_type: &str,
    content: &[u8],
) -> Result<(Digest, serde_json::Value), String> {
    let document = Referrer::parse(content)?;
    let subject = document
        .subject_digest()
        .ok_or("the manifest has no sha256 subject")?;
    let size = content.len() as u64;
    let entry = document.entry(media_type, Digest::of(content), size);
    Ok((subject, entry))
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
