//! The referrers fallback tag: an image index that clients keep up themselves (distribution
//! specification, "Referrers Tag Schema").
//!
//! Registries have no compare-and-swap for tags. A writer reads the index, adds its entry,
//! writes it, and looks again after every other writer that can have read the old state has
//! written; if its entry is gone, it starts over from what it finds. Waits have a random
//! part, so that writers in step fall out of it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::RegistryError;
use crate::limits::{MAX_FALLBACK_ROUNDS, MIN_FALLBACK_SETTLE};
use crate::media;
use crate::reference::Repository;
use crate::referrers::fallback_tag;
use index_format::Digest;

/// A writer that read before our write is given this many times our own read and write.
const SETTLE_FACTOR: u32 = 4;

impl Client {
    /// Lists the manifest `digest` under its subject's fallback tag.
    pub(super) async fn add_to_fallback_tag(
        &self,
        repository: &Repository,
        subject: Digest,
        digest: Digest,
        entry: Value,
    ) -> Result<(), RegistryError> {
        let target = fallback_tag(subject);
        let mut index = self.read_fallback(repository, subject).await?;
        if lists(&index, digest) {
            return Ok(());
        }
        for _ in 0..MAX_FALLBACK_ROUNDS {
            let started = Instant::now();
            add(&mut index, entry.clone());
            let content = Bytes::from(index.to_string());
            self.put_manifest(repository, &target, media::OCI_INDEX, content)
                .await?;
            tokio::time::sleep(settle_time(started.elapsed())).await;
            index = self.read_fallback(repository, subject).await?;
            if lists(&index, digest) {
                return Ok(());
            }
            tracing::debug!(%repository, %digest, "another writer replaced the fallback tag");
        }
        Err(RegistryError::FallbackTag {
            repository: repository.to_string(),
            tag: target.path().trim_start_matches("manifests/").to_owned(),
            digest,
            rounds: MAX_FALLBACK_ROUNDS,
        })
    }

    /// The index under the tag, or an empty one. Kept as it is, with whatever other tools
    /// have written into it.
    async fn read_fallback(
        &self,
        repository: &Repository,
        subject: Digest,
    ) -> Result<Value, RegistryError> {
        let target = fallback_tag(subject);
        let manifest = match self.manifest_at(repository, &target).await {
            Ok(manifest) => manifest,
            Err(error) if error.is_not_found() => return Ok(empty_index()),
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
        match index.get("manifests").is_some_and(Value::is_array) {
            true => Ok(index),
            false => Err(malformed(
                "the index under the fallback tag has no list of manifests",
            )),
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

fn add(index: &mut Value, entry: Value) {
    // The tag is always written as an OCI index, also where it was a Docker list.
    index["mediaType"] = media::OCI_INDEX.into();
    if let Some(entries) = index["manifests"].as_array_mut() {
        entries.push(entry);
    }
}

/// How long to wait before looking: once to twice the time that slower writers may take.
fn settle_time(own_round: Duration) -> Duration {
    let base = (own_round * SETTLE_FACTOR).max(MIN_FALLBACK_SETTLE);
    // The standard library seeds its hashers randomly; more randomness is not needed.
    let random = RandomState::new().build_hasher().finish();
    base + base.mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests;
