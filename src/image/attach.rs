//! Attaching artifacts to an image: whatever brisk publishes beside an image goes this way.

use bytes::Bytes;
use index_format::Digest;

use crate::artifact::EMPTY_CONFIG;
use crate::destination::Destination;
use crate::error::ImageError;
use brisk_registry::{BlobRef, Manifest, in_memory, media, referrer_entry};

/// An artifact that is to be attached: a manifest with a subject, and its blobs.
pub struct Attachment {
    /// The manifest's bytes (an OCI image manifest).
    pub manifest: Vec<u8>,
    /// Its artifact type.
    pub artifact_type: &'static str,
    /// The blobs that the manifest names, besides the empty config.
    pub blobs: Vec<Vec<u8>>,
}

/// What became of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Digest of the artifact's manifest.
    pub artifact: Digest,
    /// True where exactly this was attached before: nothing was sent.
    pub was_there: bool,
}

/// Attaches an artifact to its subject; a second time is a no-op.
///
/// # Errors
/// See [`ImageError`].
pub async fn attach(
    destination: &Destination,
    attachment: Attachment,
) -> Result<Attached, ImageError> {
    let manifest = Manifest {
        digest: Digest::of(&attachment.manifest),
        media_type: media::OCI_MANIFEST.to_owned(),
        bytes: Bytes::from(attachment.manifest),
    };
    let artifact = manifest.digest;
    let (subject, _) = referrer_entry(&manifest.media_type, &manifest.bytes)
        .map_err(|message| ImageError::Artifact { message })?;
    let is_there = destination.has_referrer(subject, attachment.artifact_type, artifact);
    if is_there.await? {
        return Ok(Attached {
            artifact,
            was_there: true,
        });
    }
    let blobs = attachment.blobs.into_iter().map(Bytes::from);
    for content in blobs.chain([Bytes::from_static(EMPTY_CONFIG)]) {
        let blob = BlobRef {
            digest: Digest::of(&content),
            size: content.len() as u64,
        };
        destination
            .put_blob(blob, &in_memory(content), None)
            .await?;
    }
    destination.put_referrer(&manifest).await?;
    Ok(Attached {
        artifact,
        was_there: false,
    })
}
