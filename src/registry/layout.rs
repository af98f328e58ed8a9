//! OCI image layout directories (image specification, "Image Layout") as a source.
//!
//! Blobs are named by typed digests only, so that no document can lead out of the directory.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::try_unfold;
use index_format::Digest;
use oci_spec::image::Descriptor;

use crate::archive::Members;
use crate::blob::{BlobRef, BlobStream};
use crate::error::RegistryError;
use crate::layout_directory::LayoutDirectory;
use crate::layout_error::LayoutError;
use crate::limits::MAX_WHOLE_BLOB_BYTES;
use crate::manifest::Manifest;
use crate::referrers::select;

/// Bytes read at a time when streaming: large enough that the reads cost nothing beside the
/// decoding, small enough to keep few in memory.
const STREAM_PIECE_BYTES: u64 = 1 << 20;

/// An image layout directory. Cheap to clone; nothing is open between calls.
#[derive(Clone, Debug)]
pub struct Layout {
    directory: LayoutDirectory,
}

impl Layout {
    /// The layout in `dir`, which is looked at when something is read.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            directory: LayoutDirectory {
                dir: dir.into(),
                archive: None,
            },
        }
    }

    /// The layout in a tar archive, whose table of members is read now.
    ///
    /// # Errors
    /// `Layout` for a file that cannot be read as a tar archive.
    pub async fn of_archive(file: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let dir = file.into();
        let path = dir.clone();
        let members = tokio::task::spawn_blocking(move || Members::read(&path))
            .await
            .unwrap_or_else(|_| Err(LayoutError::Interrupted { dir: dir.clone() }))?;
        Ok(Self {
            directory: LayoutDirectory {
                dir,
                archive: Some(Arc::new(members)),
            },
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.directory.dir
    }

    /// The manifest tagged `tag`, or, without a tag, the only one: the only entry, else the
    /// only tagged one, else the one tagged `latest`.
    ///
    /// # Errors
    /// `Layout` for a directory that is no layout, or where no entry or several fit.
    pub async fn named_manifest(&self, tag: Option<&str>) -> Result<Manifest, RegistryError> {
        let tag = tag.map(str::to_owned);
        self.blocking(move |directory| {
            let entry = directory.entry(tag.as_deref())?;
            let digest = directory.digest_of(&entry)?;
            directory.read_manifest(digest, Some(entry.media_type().as_ref()))
        })
        .await
    }

    /// The manifest with a digest.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn manifest(&self, digest: Digest) -> Result<Manifest, RegistryError> {
        self.blocking(move |directory| directory.read_manifest(digest, None))
            .await
    }

    /// A whole blob, verified.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn blob(&self, blob: BlobRef) -> Result<Bytes, RegistryError> {
        self.blocking(move |directory| {
            let path = directory.blob_path(blob.digest);
            let at = || path.display().to_string();
            if blob.size > MAX_WHOLE_BLOB_BYTES {
                return Err(RegistryError::TooLarge {
                    at: at(),
                    limit: MAX_WHOLE_BLOB_BYTES,
                });
            }
            let bytes = directory.read_range(blob, 0..blob.size)?;
            blob.verify(&bytes, at)?;
            Ok(bytes)
        })
        .await
    }

    /// A range of a blob, not verified.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn blob_range(
        &self,
        blob: BlobRef,
        wanted: Range<u64>,
    ) -> Result<Bytes, RegistryError> {
        self.blocking(move |directory| directory.read_range(blob, wanted))
            .await
    }

    /// A range of a blob piece by piece, not verified.
    pub fn blob_stream(&self, blob: BlobRef, wanted: Range<u64>) -> BlobStream {
        let path = self.directory.blob_path(blob.digest);
        if let Err(error) = blob.check(&wanted, u64::MAX, || path.display().to_string()) {
            return futures_util::stream::iter([Err(error)]).boxed();
        }
        try_unfold((self.clone(), wanted), move |(layout, rest)| async move {
            if rest.is_empty() {
                return Ok(None);
            }
            let end = rest.end.min(rest.start.saturating_add(STREAM_PIECE_BYTES));
            let piece = layout.blob_range(blob, rest.start..end).await?;
            Ok(Some((piece, (layout, end..rest.end))))
        })
        .boxed()
    }

    /// The manifests in the layout's index whose subject is `subject`, and those that its
    /// fallback tag lists.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn referrers(
        &self,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let artifact_type = artifact_type.map(str::to_owned);
        self.blocking(move |directory| {
            let found = directory.find_referrers(subject)?;
            Ok(select(found, artifact_type.as_deref()))
        })
        .await
    }

    async fn blocking<T, F>(&self, work: F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: FnOnce(&LayoutDirectory) -> Result<T, RegistryError> + Send + 'static,
    {
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || work(&directory))
            .await
            .unwrap_or_else(|_| {
                Err(LayoutError::Interrupted {
                    dir: self.directory.dir.clone(),
                }
                .into())
            })
    }
}

#[cfg(test)]
mod tests;
