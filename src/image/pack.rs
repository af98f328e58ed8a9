//! The artifact that carries the content of a start-up set as a referrer of the image.
//!
//! One manifest with the image manifest as subject, one blob. Everything that a start needs to
//! ask for the blob stands in an annotation, which a referrers answer repeats.

use bytes::Bytes;
use index_format::Digest;
use serde::{Deserialize, Serialize};

use crate::artifact::{self, EMPTY_CONFIG};
use crate::documents;
use crate::error::ImageError;
use crate::query::Query;
use brisk_registry::{BlobRef, Descriptor, ImageSource};

/// Artifact type of a pack.
pub const ARTIFACT_TYPE: &str = "application/vnd.brisk.pack.v1";
/// Media type of its one blob.
pub const BLOB_TYPE: &str = "application/vnd.brisk.pack.blob.v1";
/// Annotation that says what it is for and where.
pub const ANNOTATION: &str = "dev.brisk.pack";
/// Largest pack that is read, in bytes: what is waited for at a start is far below it.
pub const BLOB_LIMIT: u64 = 2 << 30;
/// Packs of one image that a root remembers, the newest: whoever can push there could attach
/// any number.
const REMEMBERED: usize = 64;
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Where a pack lies and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackPlace {
    /// Digest of the blob.
    pub blob: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of the table at its start.
    pub table: u64,
    /// The command whose start it serves: see [`crate::startup::command_digest`].
    pub command: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

impl PackPlace {
    /// The blob.
    pub fn blob(&self) -> Option<BlobRef> {
        let digest = self.blob.parse().ok()?;
        let size = self.size;
        Some(BlobRef { digest, size })
    }

    fn is_sensible(&self) -> bool {
        self.blob().is_some()
            && self.command.parse::<Digest>().is_ok()
            && self.table <= self.size
            && self.size <= BLOB_LIMIT
    }
}

/// The packs among an image's referrers, the newest first.
pub fn places(referrers: &[Descriptor]) -> Vec<PackPlace> {
    let is_pack = |referrer: &&Descriptor| {
        let kind = referrer.artifact_type().as_ref();
        kind.is_some_and(|kind| kind.as_ref() == ARTIFACT_TYPE)
    };
    let place = |referrer: &Descriptor| {
        let text = referrer.annotations().as_ref()?.get(ANNOTATION)?;
        let place: PackPlace = serde_json::from_str(text).ok()?;
        place.is_sensible().then_some(place)
    };
    let mut places: Vec<PackPlace> = referrers.iter().filter(is_pack).filter_map(place).collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.created));
    places.truncate(REMEMBERED);
    places
}

/// The pack for a command.
pub fn choose(places: &[PackPlace], command: Digest) -> Option<&PackPlace> {
    let text = command.to_string();
    places.iter().find(|place| place.command == text)
}

/// The packs that are attached to an image in its registry now.
///
/// # Errors
/// Where manifest or referrers cannot be had.
pub async fn attached(query: &Query) -> Result<Vec<PackPlace>, ImageError> {
    let manifest = documents::manifest(query).await?;
    let referrers = query.source.referrers(manifest.digest, Some(ARTIFACT_TYPE));
    Ok(places(&referrers.await?))
}

/// Attaches a pack to its image; gives the digest of the artifact's manifest, none where exactly
/// this pack is attached for the command already.
///
/// # Errors
/// See [`ImageError`]; a layout directory cannot be pushed to.
pub async fn push(
    query: &Query,
    place: &PackPlace,
    content: Vec<u8>,
) -> Result<Option<Digest>, ImageError> {
    let ImageSource::Registry { client, reference } = &query.source else {
        return Err(ImageError::Artifact {
            message: format!("{} is not in a registry", query.reference),
        });
    };
    let repository = reference.repository();
    let image = documents::manifest(query).await?;
    let referrers = query
        .source
        .referrers(image.digest, Some(ARTIFACT_TYPE))
        .await?;
    let newest = places(&referrers)
        .into_iter()
        .find(|known| known.command == place.command);
    if newest.is_some_and(|known| known.blob == place.blob) {
        return Ok(None);
    }
    for blob in [Bytes::from(content), Bytes::from_static(EMPTY_CONFIG)] {
        client.upload_blob(repository, blob).await?;
    }
    let size = image.bytes.len() as u64;
    let manifest = manifest(place, (image.digest, size, &image.media_type))?;
    let digest = client.push_referrer(repository, MANIFEST_TYPE, Bytes::from(manifest));
    Ok(Some(digest.await?))
}

fn manifest(place: &PackPlace, subject: (Digest, u64, &str)) -> Result<Vec<u8>, ImageError> {
    let place_text = serde_json::to_string(place).map_err(|error| ImageError::Artifact {
        message: error.to_string(),
    })?;
    let blob = (BLOB_TYPE, place.blob.clone(), place.size);
    artifact::manifest(ARTIFACT_TYPE, blob, subject, (ANNOTATION, &place_text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(created: u64) -> PackPlace {
        PackPlace {
            blob: Digest::of(b"pack").to_string(),
            size: 1000,
            table: 100,
            command: Digest::of(b"command").to_string(),
            created,
        }
    }

    /// What a registry lists of an artifact: the manifest's annotations in its descriptor.
    fn listed(place: &PackPlace, kind: &str) -> Descriptor {
        let manifest = manifest(place, (Digest::of(b"image"), 5, "type")).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        serde_json::from_value(serde_json::json!({
            "mediaType": MANIFEST_TYPE,
            "digest": Digest::of(&manifest).to_string(),
            "size": manifest.len(),
            "artifactType": kind,
            "annotations": document["annotations"],
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_pack_of_a_command_is_chosen() {
        let other = PackPlace {
            command: Digest::of(b"other").to_string(),
            ..place(9)
        };
        let referrers = [
            listed(&place(5), ARTIFACT_TYPE),
            listed(&place(7), ARTIFACT_TYPE),
            listed(&place(8), "application/vnd.example"),
            listed(&other, ARTIFACT_TYPE),
        ];
        let places = places(&referrers);
        assert_eq!(places.len(), 3);
        let chosen = choose(&places, Digest::of(b"command")).unwrap();
        assert_eq!(chosen, &place(7));
        assert_eq!(choose(&places, Digest::of(b"none")), None);
    }

    #[test]
    fn descriptions_that_make_no_sense_are_passed_over() {
        for bad in [
            PackPlace {
                blob: "sha256:1".to_owned(),
                ..place(1)
            },
            PackPlace {
                command: String::new(),
                ..place(1)
            },
            PackPlace {
                size: u64::MAX,
                ..place(1)
            },
            PackPlace {
                table: 1001,
                ..place(1)
            },
        ] {
            assert_eq!(places(&[listed(&bad, ARTIFACT_TYPE)]), []);
        }
    }
}
