//! One handle for images in registries and in layout directories.

use std::ops::Range;

use bytes::Bytes;
use oci_spec::image::Descriptor;

use crate::blob::{BlobRef, BlobStream};
use crate::client::Client;
use crate::error::RegistryError;
use crate::layout::Layout;
use crate::manifest::{Manifest, ManifestTarget};
use crate::reference::Reference;
use crate::source::Source;
use index_format::Digest;

/// Where the parts of one image are read from. Cheap to clone.
#[derive(Clone, Debug)]
pub enum ImageSource {
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
        layout: Layout,
        /// The tag to look for; none means the only entry.
        tag: Option<String>,
        /// The manifest, when the user gave its digest.
        digest: Option<Digest>,
    },
}

impl ImageSource {
    /// The source that the user named. Nothing is read yet.
    pub fn new(client: Client, source: Source) -> Self {
        match source {
            Source::Registry(reference) => Self::Registry { client, reference },
            Source::Layout { dir, tag, digest } => Self::Layout {
                layout: Layout::new(dir),
                tag,
                digest,
            },
        }
    }

    /// What trust in this source's indexes is bound to: the repository, or the directory.
    pub fn scope(&self) -> String {
        match self {
            Self::Registry { reference, .. } => reference.repository().to_string(),
            Self::Layout { layout, .. } => format!("oci:{}", layout.dir().display()),
        }
    }

    /// The manifest or image index that the source names.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn named_manifest(&self) -> Result<Manifest, RegistryError> {
        match self {
            Self::Registry { client, reference } => client.manifest(reference).await,
            Self::Layout {
                layout,
                digest: Some(digest),
                ..
            } => layout.manifest(*digest).await,
            Self::Layout { layout, tag, .. } => layout.named_manifest(tag.as_deref()).await,
        }
    }

    /// A manifest by its digest.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn manifest(&self, digest: Digest) -> Result<Manifest, RegistryError> {
        match self {
            Self::Registry { client, reference } => {
                client
                    .manifest_at(reference.repository(), &ManifestTarget::Digest(digest))
                    .await
            }
            Self::Layout { layout, .. } => layout.manifest(digest).await,
        }
    }

    /// A whole blob, verified: see [`Client::blob`].
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn blob(&self, blob: BlobRef) -> Result<Bytes, RegistryError> {
        match self {
            Self::Registry { client, reference } => client.blob(reference.repository(), blob).await,
            Self::Layout { layout, .. } => layout.blob(blob).await,
        }
    }

    /// A range of a blob, not verified: see [`Client::blob_range`].
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn blob_range(
        &self,
        blob: BlobRef,
        wanted: Range<u64>,
    ) -> Result<Bytes, RegistryError> {
        match self {
            Self::Registry { client, reference } => {
                client
                    .blob_range(reference.repository(), blob, wanted)
                    .await
            }
            Self::Layout { layout, .. } => layout.blob_range(blob, wanted).await,
        }
    }

    /// A range of a blob as a stream, not verified: see [`Client::blob_stream`].
    pub fn blob_stream(&self, blob: BlobRef, wanted: Range<u64>) -> BlobStream {
        match self {
            Self::Registry { client, reference } => {
                client.blob_stream(reference.repository(), blob, wanted)
            }
            Self::Layout { layout, .. } => layout.blob_stream(blob, wanted),
        }
    }

    /// The manifests whose subject is `subject`: see [`Client::referrers`].
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn referrers(
        &self,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        match self {
            Self::Registry { client, reference } => {
                client
                    .referrers(reference.repository(), subject, artifact_type)
                    .await
            }
            Self::Layout { layout, .. } => layout.referrers(subject, artifact_type).await,
        }
    }
}
