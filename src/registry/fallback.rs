//! The referrers fallback tag: an image index that clients keep up themselves (distribution
//! specification, "Referrers Tag Schema").
//!
//! Few registries have a compare-and-swap for tags. A writer reads the index, changes it, and
//! writes it on condition that it is still the one that was read (If-Match, RFC 9110, 13.1.1).
//! Most registries ignore the condition, so it looks again after every other writer that can
//! have read the old state has written; if its change is gone, it starts over from what it
//! finds. Where the registry has refused a write for the condition, it honours it, and a write
//! that succeeds is final. Waits have a random part, so that writers in step fall out of it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::auth_slot::Action;
use crate::client::Client;
use crate::error::RegistryError;
use crate::limits::{MAX_FALLBACK_ROUNDS, MIN_FALLBACK_SETTLE};
use crate::media;
use crate::reference::Repository;
use crate::referrers::fallback_tag;
use index_format::Digest;

/// A writer that read before our write is given this many times our own read and write.
const SETTLE_FACTOR: u32 = 4;

/// Random part of a wait, at most: this many times its fixed part in later rounds.
const MAX_SPREAD: u32 = 4;

/// What is to be done to the list under a fallback tag.
#[derive(Debug)]
pub(super) enum Change {
    /// A manifest, by its entry, is to be in it.
    Add(Digest, Value),
    /// A manifest is not to be in it.
    Remove(Digest),
}

/// The list under a fallback tag, and the condition that it is still the one that was read.
struct Tagged {
    index: Value,
    unchanged: Option<(HeaderName, HeaderValue)>,
}

impl Client {
    /// Changes the list under a subject's fallback tag, whoever else writes it.
    ///
    /// # Errors
    /// `FallbackTag` where the change did not stay; a later one by anyone heals it.
    pub(super) async fn change_fallback_tag(
        &self,
        repository: &Repository,
        subject: Digest,
        change: &Change,
    ) -> Result<(), RegistryError> {
        let target = fallback_tag(subject);
        let mut tagged = self.read_fallback(repository, subject).await?;
        let (mut asks, mut is_honoured) = (true, false);
        for round in 0..MAX_FALLBACK_ROUNDS {
            if change.holds_in(&tagged.index) {
                return Ok(());
            }
            let started = Instant::now();
            change.apply(&mut tagged.index);
            let content = Bytes::from(tagged.index.to_string());
            let condition = tagged.unchanged.filter(|_| asks);
            let asked = condition.is_some();
            let written = self
                .put_manifest_if(repository, &target, media::OCI_INDEX, content, condition)
                .await;
            match written {
                Ok(_) if is_honoured && asked => return Ok(()),
                Ok(_) => {}
                Err(error) if error.status() == Some(412) => is_honoured = true,
                // It does not know conditions, and says so.
                Err(error) if asked && matches!(error.status(), Some(400 | 501)) => asks = false,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(settle_time(started.elapsed(), round)).await;
            tagged = self.read_fallback(repository, subject).await?;
        }
        if change.holds_in(&tagged.index) {
            return Ok(());
        }
        Err(RegistryError::FallbackTag {
            repository: repository.to_string(),
            tag: target.path().trim_start_matches("manifests/").to_owned(),
            digest: change.manifest(),
            rounds: MAX_FALLBACK_ROUNDS,
        })
    }

    /// The index under the tag, or an empty one. Kept as it is, with whatever other tools
    /// have written into it.
    async fn read_fallback(
        &self,
        repository: &Repository,
        subject: Digest,
    ) -> Result<Tagged, RegistryError> {
        let target = fallback_tag(subject);
        let read = self.manifest_and_headers(repository, &target, Action::Push);
        let (manifest, headers) = match read.await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                return Ok(Tagged {
                    index: empty_index(),
                    unchanged: Some((IF_NONE_MATCH, HeaderValue::from_static("*"))),
                });
            }
            Err(error) => return Err(error),
        };
        let malformed = |reason: &str| RegistryError::Malformed {
            at: format!("{repository}/{}", target.path()),
            reason: reason.to_owned(),
        };
        if !media::is_index(&manifest.media_type) {
            return Err(malformed(
                "the fallback tag is taken by something else than an index",
            ));
        }
        let index: Value = serde_json::from_slice(&manifest.bytes)
            .map_err(|_| malformed("the index under the fallback tag is not JSON"))?;
        if !index.get("manifests").is_some_and(Value::is_array) {
            return Err(malformed(
                "the index under the fallback tag has no list of manifests",
            ));
        }
        // A weak one never matches (RFC 9110, 13.1.1).
        let strong = headers
            .get(ETAG)
            .filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        Ok(Tagged {
            index,
            unchanged: strong.map(|tag| (IF_MATCH, tag.clone())),
        })
    }
}

impl Change {
    fn manifest(&self) -> Digest {
        match self {
            Self::Add(digest, _) | Self::Remove(digest) => *digest,
        }
    }

    fn holds_in(&self, index: &Value) -> bool {
        match self {
            Self::Add(digest, _) => lists(index, *digest),
            Self::Remove(digest) => !lists(index, *digest),
        }
    }

    fn apply(&self, index: &mut Value) {
        // The tag is always written as an OCI index, also where it was a Docker list.
        index["mediaType"] = media::OCI_INDEX.into();
        let Some(entries) = index["manifests"].as_array_mut() else {
            return;
        };
        match self {
            Self::Add(_, entry) => entries.push(entry.clone()),
            Self::Remove(digest) => {
                let digest = digest.to_string();
                entries.retain(|entry| entry["digest"] != digest.as_str());
            }
        }
    }
}

fn empty_index() -> Value {
    json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [] })
}

fn lists(index: &Value, digest: Digest) -> bool {
    let digest = digest.to_string();
    let entries = index["manifests"].as_array().into_iter().flatten();
    entries
        .into_iter()
        .any(|entry| entry["digest"] == digest.as_str())
}

/// How long to wait before looking: the time that slower writers may take, and a random part
/// that grows with the rounds, up to [`MAX_SPREAD`] times that.
fn settle_time(own_round: Duration, round: usize) -> Duration {
    let base = (own_round * SETTLE_FACTOR).max(MIN_FALLBACK_SETTLE);
    let spread = u32::try_from(round + 1).map_or(MAX_SPREAD, |n| n.min(MAX_SPREAD));
    // The standard library seeds its hashers randomly; more randomness is not needed.
    let random = RandomState::new().build_hasher().finish();
    base + (base * spread).mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests;
