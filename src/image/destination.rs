//! Where images and their referrers are written to: a registry, an image layout directory, or
//! an archive of one.

use brisk_registry::{
    ArchiveWriter, BlobRef, Client, ContentRange, ImageSource, Layout, LayoutWriter, Manifest,
    ManifestTarget, Reference, RegistryError, Repository, Uploaded, referrer_entry,
};
use index_format::Digest;
use serde_json::{Value, json};

/// Blobs sent at a time: enough to fill a link beside the requests about each, few enough to
/// keep the pieces in memory below 100 MB.
const PARALLEL_BLOBS: usize = 3;

/// A place that can be written to.
#[derive(Debug)]
pub enum Destination {
    /// A repository of a registry.
    Registry {
        /// The client, with the credentials to use.
        client: Client,
        /// The image.
        reference: Reference,
    },
    /// An image layout directory.
    Layout {
        /// The directory.
        writer: LayoutWriter,
        /// The image's tag in it.
        tag: Option<String>,
    },
    /// A tar archive of an image layout.
    Archive {
        /// The archive.
        writer: ArchiveWriter,
        /// The image's tag in it.
        tag: Option<String>,
    },
}

impl Destination {
    /// The place that an image was read from, to attach something to the image there.
    ///
    /// # Errors
    /// Where a layout directory cannot be written to.
    pub fn beside(source: &ImageSource) -> Result<Self, RegistryError> {
        Ok(match source {
            ImageSource::Registry { client, reference } => Self::Registry {
                client: client.clone(),
                reference: reference.clone(),
            },
            ImageSource::Layout { layout, tag, .. } => Self::Layout {
                writer: LayoutWriter::open(layout.dir())?,
                tag: tag.clone(),
            },
        })
    }

    /// How many blobs can be written at a time.
    pub fn parallel_blobs(&self) -> usize {
        match self {
            Self::Registry { .. } | Self::Layout { .. } => PARALLEL_BLOBS,
            Self::Archive { .. } => 1,
        }
    }

    /// Writes a blob, unless it is there. A registry is asked to take it from its repository
    /// `from`.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn put_blob(
        &self,
        blob: BlobRef,
        content: ContentRange<'_>,
        from: Option<&Repository>,
    ) -> Result<Uploaded, RegistryError> {
        match self {
            Self::Registry { client, reference } => {
                let repository = reference.repository();
                client.upload(repository, blob, content, from).await
            }
            Self::Layout { writer, .. } => writer.put_blob(blob, content).await,
            Self::Archive { writer, .. } => writer.put_blob(blob, content).await,
        }
    }

    /// Writes a manifest or image index under its digest, unless it is there.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn put_manifest(&self, manifest: &Manifest) -> Result<(), RegistryError> {
        match self {
            Self::Registry { client, reference } => {
                let repository = reference.repository();
                let target = ManifestTarget::Digest(manifest.digest);
                if client.manifest_exists(repository, &target).await? {
                    return Ok(());
                }
                let bytes = manifest.bytes.clone();
                let put = client.put_manifest(repository, &target, &manifest.media_type, bytes);
                put.await.map(drop)
            }
            Self::Layout { writer, .. } => writer.put_manifest(&manifest.bytes).map(drop),
            Self::Archive { writer, .. } => writer.put_manifest(&manifest.bytes).await.map(drop),
        }
    }

    /// Writes a manifest that has a subject, and lists it among the subject's referrers.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn put_referrer(&self, manifest: &Manifest) -> Result<(), RegistryError> {
        let entry = || {
            referrer_entry(&manifest.media_type, &manifest.bytes).map_err(|reason| {
                RegistryError::Malformed {
                    at: manifest.digest.to_string(),
                    reason,
                }
            })
        };
        match self {
            Self::Registry { client, reference } => {
                let (media_type, bytes) = (&manifest.media_type, manifest.bytes.clone());
                let pushed = client.push_referrer(reference.repository(), media_type, bytes);
                pushed.await.map(drop)
            }
            Self::Layout { writer, .. } => {
                writer.put_manifest(&manifest.bytes)?;
                writer.list(entry()?.1, None)
            }
            Self::Archive { writer, .. } => {
                writer.put_manifest(&manifest.bytes).await?;
                writer.list(entry()?.1, None).await;
                Ok(())
            }
        }
    }

    /// True where exactly this manifest is attached to that subject, and is there.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn has_referrer(
        &self,
        subject: Digest,
        artifact_type: &str,
        digest: Digest,
    ) -> Result<bool, RegistryError> {
        let wanted = digest.to_string();
        let is_listed = |found: &[brisk_registry::Descriptor]| {
            found.iter().any(|d| d.digest().as_ref() == wanted)
        };
        match self {
            Self::Registry { client, reference } => {
                let repository = reference.repository();
                let found = client.referrers(repository, subject, Some(artifact_type));
                if !is_listed(&found.await?) {
                    return Ok(false);
                }
                // A list that its clients keep up can name what is gone.
                let target = ManifestTarget::Digest(digest);
                client.manifest_exists(repository, &target).await
            }
            Self::Layout { writer, .. } => {
                let layout = Layout::new(writer.dir());
                let found = layout.referrers(subject, Some(artifact_type)).await?;
                Ok(is_listed(&found))
            }
            Self::Archive { .. } => Ok(false),
        }
    }

    /// Gives the image its name there; an archive is complete then.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn name(&self, manifest: &Manifest) -> Result<(), RegistryError> {
        match self {
            Self::Registry { client, reference } => {
                let target = match reference.tag() {
                    Some(tag) => ManifestTarget::Tag(tag.to_owned()),
                    None => reference.target(),
                };
                let (media_type, bytes) = (&manifest.media_type, manifest.bytes.clone());
                let put = client.put_manifest(reference.repository(), &target, media_type, bytes);
                put.await.map(drop)
            }
            Self::Layout { writer, tag } => writer.list(entry_of(manifest), tag.as_deref()),
            Self::Archive { writer, tag } => {
                writer.list(entry_of(manifest), tag.as_deref()).await;
                writer.finish().await
            }
        }
    }
}

/// The entry of an image in a layout's index.
fn entry_of(manifest: &Manifest) -> Value {
    json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest.to_string(),
        "size": manifest.bytes.len(),
    })
}
