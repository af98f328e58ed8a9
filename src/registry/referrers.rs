//! Referrers: what else a repository holds about an image.
//!
//! The referrers API and the fallback tag `sha256-<hex>` are asked at the same time: which of
//! them a registry and its publishers use cannot be known, and one trip is saved.

use oci_spec::image::Descriptor;
use reqwest::header::{ACCEPT, HeaderValue};
use serde::Deserialize;

use crate::client::{Call, Client};
use crate::error::RegistryError;
use crate::host::shown;
use crate::limits::{MAX_REFERRERS_BYTES, MAX_REFERRERS_PAGES};
use crate::manifest::ManifestTarget;
use crate::media;
use crate::paging::next_page;
use crate::reference::Repository;
use crate::response::Response;
use index_format::Digest;

/// The tag under which clients list the referrers of a manifest at registries without the
/// referrers API.
pub(super) fn fallback_tag(subject: Digest) -> ManifestTarget {
    ManifestTarget::Tag(format!("sha256-{}", subject.hex()))
}

/// A list of referrers. Entries are read one by one, so that one that this program does not
/// understand hides none of the others.
#[derive(Deserialize)]
struct ReferrersDocument {
    #[serde(default)]
    manifests: Vec<serde_json::Value>,
}

/// Reads an image index of referrers.
pub(super) fn parse_referrers(document: &[u8]) -> Result<Vec<Descriptor>, String> {
    let parsed: ReferrersDocument = serde_json::from_slice(document)
        .map_err(|error| format!("the referrers list is not an image index: {error}"))?;
    let entries = parsed.manifests.into_iter();
    Ok(entries
        .filter_map(|entry| serde_json::from_value(entry).ok())
        .collect())
}

/// Keeps the wanted artifact type, and each manifest once.
pub(super) fn select(
    lists: impl IntoIterator<Item = Descriptor>,
    artifact_type: Option<&str>,
) -> Vec<Descriptor> {
    let mut selected: Vec<Descriptor> = Vec::new();
    for descriptor in lists {
        let own = descriptor.artifact_type().as_ref().map(AsRef::as_ref);
        let wanted = artifact_type.is_none_or(|wanted| own == Some(wanted));
        if wanted
            && selected
                .iter()
                .all(|other| other.digest() != descriptor.digest())
        {
            selected.push(descriptor);
        }
    }
    selected
}

impl Client {
    /// The manifests of a repository whose subject is `subject`, of one artifact type where
    /// one is given. They are claims of whoever may push to the repository.
    ///
    /// # Errors
    /// See [`RegistryError`]; a registry that knows no referrers has none, which is no error.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let (native, fallback) = tokio::join!(
            self.native_referrers(repository, subject, artifact_type),
            self.fallback_referrers(repository, subject),
        );
        let lists = match (native, fallback) {
            (Ok(native), Ok(fallback)) => native
                .into_iter()
                .flatten()
                .chain(fallback)
                .collect::<Vec<_>>(),
            // Only a registry with the API answers for both.
            (Ok(Some(native)), Err(error)) => {
                tracing::debug!(%error, %repository, "no referrers fallback tag read");
                native
            }
            (Err(error), Ok(fallback)) if !fallback.is_empty() => {
                tracing::warn!(%error, %repository, "referrers API failed, using the tag");
                fallback
            }
            (Err(error), _) | (Ok(None), Err(error)) => return Err(error),
        };
        Ok(select(lists, artifact_type))
    }

    /// The referrers API's answer; `None` where the registry does not have it.
    async fn native_referrers(
        &self,
        repository: &Repository,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let mut call = self.get(repository, &format!("referrers/{subject}"))?;
        call.headers
            .insert(ACCEPT, HeaderValue::from_static(media::OCI_INDEX));
        if let Some(artifact_type) = artifact_type {
            call.url
                .query_pairs_mut()
                .append_pair("artifactType", artifact_type);
        }
        let mut found = Vec::new();
        let mut budget = MAX_REFERRERS_BYTES;
        for page in 0..MAX_REFERRERS_PAGES {
            let response = match self.repeat(&call).await {
                Ok(response) => response,
                Err(error) if page == 0 && is_unsupported(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            let at = response.at().to_owned();
            let next = next_page(&call, &response)?;
            let document = response.bytes(budget).await?;
            budget -= document.len() as u64;
            match parse_referrers(&document) {
                Ok(entries) => found.extend(entries),
                // Some registries answer unknown paths with a page for people.
                Err(_) if page == 0 => return Ok(None),
                Err(reason) => return Err(RegistryError::Malformed { at, reason }),
            }
            match next {
                Some(url) => call.url = url,
                None => return Ok(Some(found)),
            }
        }
        let reason = format!("the referrers list has more than {MAX_REFERRERS_PAGES} pages");
        Err(RegistryError::Malformed {
            at: shown(&call.url),
            reason,
        })
    }

    async fn fallback_referrers(
        &self,
        repository: &Repository,
        subject: Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let target = fallback_tag(subject);
        match self.manifest_at(repository, &target).await {
            Ok(manifest) if media::is_index(&manifest.media_type) => {
                parse_referrers(&manifest.bytes).map_err(|reason| RegistryError::Malformed {
                    at: format!("{repository}/{}", target.path()),
                    reason,
                })
            }
            // Another tool's use of the name, such as an image tagged so.
            Ok(_) => Ok(Vec::new()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Makes attempts at a call until one succeeds.
    pub(super) async fn repeat(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let transport = &self.transport;
        transport
            .config
            .retry
            .run(&transport.trips, || self.call(call))
            .await
    }
}

/// 404 by the specification; the others are how older registries refuse an unknown path.
fn is_unsupported(error: &RegistryError) -> bool {
    matches!(error.status(), Some(400 | 404 | 405 | 406 | 410 | 501))
}

#[cfg(test)]
mod tests;
