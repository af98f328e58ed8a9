//! OCI image layout directories (image specification, "Image Layout") as a source.
//!
//! Blobs are named by typed digests only, so that no document can lead out of the directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::try_unfold;
use oci_spec::image::Descriptor;
use rustix::fs::OFlags;
use serde::Deserialize;

use crate::registry::blob::{BlobRef, BlobStream};
use crate::registry::error::RegistryError;
use crate::registry::limits::{
    MAX_LAYOUT_MANIFESTS, MAX_MANIFEST_BYTES, MAX_RANGE_BYTES, MAX_WHOLE_BLOB_BYTES,
};
use crate::registry::manifest::{Manifest, media_type};
use crate::registry::media;
use crate::registry::push::Referrer;
use crate::registry::referrers::{parse_referrers, select};
use index_format::Digest;

/// Bytes read at a time when streaming: large enough that the reads cost nothing beside the
/// decoding, small enough to keep few in memory.
const STREAM_PIECE_BYTES: u64 = 1 << 20;

/// The annotation with an entry's tag (image specification, "Annotations").
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image layout that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not an image layout of version 1.
    #[error("{}: not an OCI image layout: {reason}", .dir.display())]
    NotALayout {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// A document that is not what the specification says.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No entry has the tag, or there are none.
    #[error("{}: no entry {wanted}; it has {names}", .dir.display())]
    NoEntry {
        /// The directory.
        dir: PathBuf,
        /// What was looked for.
        wanted: String,
        /// The names that there are.
        names: String,
    },
    /// Several entries fit.
    #[error("{}: several entries; name one as oci:DIR:TAG, it has {names}", .dir.display())]
    Ambiguous {
        /// The directory.
        dir: PathBuf,
        /// The names that there are.
        names: String,
    },
    /// A blob has another size than its descriptor says.
    #[error("{}: {actual} bytes, its descriptor says {expected}", .path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// The descriptor's size.
        expected: u64,
        /// The file's size.
        actual: u64,
    },
    /// The thread that read the file was cancelled.
    #[error("{}: reading was interrupted", .dir.display())]
    Interrupted {
        /// The directory.
        dir: PathBuf,
    },
}

impl LayoutError {
    pub(super) fn is_not_found(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::NoEntry { .. } => true,
            _ => false,
        }
    }
}

#[derive(Deserialize)]
struct LayoutHeader {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Deserialize)]
struct LayoutIndex {
    manifests: Vec<Descriptor>,
}

/// An image layout directory. Cheap to clone; nothing is open between calls.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout in `dir`, which is looked at when something is read.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manifest tagged `tag`, or, without a tag, the only one: the only entry, else the
    /// only tagged one, else the one tagged `latest`.
    ///
    /// # Errors
    /// `Layout` for a directory that is no layout, or where no entry or several fit.
    pub async fn named_manifest(&self, tag: Option<&str>) -> Result<Manifest, RegistryError> {
        let tag = tag.map(str::to_owned);
        self.blocking(move |layout| {
            let entry = layout.entry(tag.as_deref())?;
            let digest = layout.digest_of(&entry)?;
            layout.read_manifest(digest, Some(entry.media_type().as_ref()))
        })
        .await
    }

    /// The manifest with a digest.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn manifest(&self, digest: Digest) -> Result<Manifest, RegistryError> {
        self.blocking(move |layout| layout.read_manifest(digest, None))
            .await
    }

    /// A whole blob, verified.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn blob(&self, blob: BlobRef) -> Result<Bytes, RegistryError> {
        self.blocking(move |layout| {
            let path = layout.blob_path(blob.digest);
            let at = || path.display().to_string();
            if blob.size > MAX_WHOLE_BLOB_BYTES {
                return Err(RegistryError::TooLarge {
                    at: at(),
                    limit: MAX_WHOLE_BLOB_BYTES,
                });
            }
            let bytes = layout.read_range(blob, 0..blob.size)?;
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
        self.blocking(move |layout| layout.read_range(blob, wanted))
            .await
    }

    /// A range of a blob piece by piece, not verified.
    pub fn blob_stream(&self, blob: BlobRef, wanted: Range<u64>) -> BlobStream {
        let path = self.blob_path(blob.digest);
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
        self.blocking(move |layout| {
            let found = layout.find_referrers(subject)?;
            Ok(select(found, artifact_type.as_deref()))
        })
        .await
    }

    async fn blocking<T, F>(&self, work: F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, RegistryError> + Send + 'static,
    {
        let layout = self.clone();
        tokio::task::spawn_blocking(move || work(&layout))
            .await
            .unwrap_or_else(|_| {
                Err(LayoutError::Interrupted {
                    dir: self.dir.clone(),
                }
                .into())
            })
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    fn index(&self) -> Result<Vec<Descriptor>, LayoutError> {
        let not_a_layout = |reason: String| LayoutError::NotALayout {
            dir: self.dir.clone(),
            reason,
        };
        let (_, header) = read_document(self.dir.join("oci-layout")).map_err(|error| {
            if error.is_not_found() {
                not_a_layout("no file oci-layout".to_owned())
            } else {
                error
            }
        })?;
        let header: LayoutHeader = serde_json::from_slice(&header)
            .map_err(|error| not_a_layout(format!("oci-layout: {error}")))?;
        if !header.version.starts_with("1.") {
            return Err(not_a_layout(format!("version {:?}", header.version)));
        }
        let (path, index) = read_document(self.dir.join("index.json"))?;
        let index: LayoutIndex =
            serde_json::from_slice(&index).map_err(|error| LayoutError::Malformed {
                path,
                reason: error.to_string(),
            })?;
        Ok(index.manifests)
    }

    fn entry(&self, tag: Option<&str>) -> Result<Descriptor, LayoutError> {
        let entries = self.index()?;
        let names = || {
            let names: Vec<&str> = entries.iter().filter_map(ref_name).collect();
            match names.is_empty() {
                true => format!("{} entries without names", entries.len()),
                false => names.join(", "),
            }
        };
        let named = |wanted: &str| -> Vec<&Descriptor> {
            entries
                .iter()
                .filter(|entry| ref_name(entry) == Some(wanted))
                .collect()
        };
        let fitting: Vec<&Descriptor> = match (tag, entries.as_slice()) {
            (Some(tag), _) => named(tag),
            (None, [only]) => vec![only],
            (None, _) => {
                let is_image =
                    |e: &&Descriptor| ref_name(e).is_some() && e.artifact_type().is_none();
                let tagged: Vec<_> = entries.iter().filter(is_image).collect();
                if tagged.len() == 1 {
                    tagged
                } else {
                    named("latest")
                }
            }
        };
        match fitting.as_slice() {
            [first, rest @ ..] if rest.iter().all(|e| e.digest() == first.digest()) => {
                Ok((*first).clone())
            }
            [] if tag.is_some() || entries.is_empty() => Err(LayoutError::NoEntry {
                dir: self.dir.clone(),
                wanted: tag.map_or_else(|| "at all".to_owned(), |tag| format!("{tag:?}")),
                names: names(),
            }),
            _ => Err(LayoutError::Ambiguous {
                dir: self.dir.clone(),
                names: names(),
            }),
        }
    }

    fn digest_of(&self, entry: &Descriptor) -> Result<Digest, LayoutError> {
        entry
            .digest()
            .as_ref()
            .parse()
            .map_err(|_| LayoutError::Malformed {
                path: self.dir.join("index.json"),
                reason: format!("digest {:?} is not supported", entry.digest().as_ref()),
            })
    }

    fn read_manifest(
        &self,
        digest: Digest,
        described: Option<&str>,
    ) -> Result<Manifest, RegistryError> {
        let (path, bytes) = read_document(self.blob_path(digest))?;
        let at = || path.display().to_string();
        BlobRef {
            digest,
            size: bytes.len() as u64,
        }
        .verify(&bytes, at)?;
        let media_type = media_type(&bytes, described)
            .map_err(|reason| RegistryError::Malformed { at: at(), reason })?;
        Ok(Manifest {
            digest,
            media_type,
            bytes: bytes.into(),
        })
    }

    fn read_range(&self, blob: BlobRef, wanted: Range<u64>) -> Result<Bytes, RegistryError> {
        let path = self.blob_path(blob.digest);
        let length = blob.check(&wanted, MAX_RANGE_BYTES, || path.display().to_string())?;
        let read = || -> io::Result<(u64, Vec<u8>)> {
            let file = open_regular(&path)?;
            let actual = file.metadata()?.len();
            let mut bytes = Vec::new();
            if actual == blob.size {
                bytes.resize(length, 0);
                file.read_exact_at(&mut bytes, wanted.start)?;
            }
            Ok((actual, bytes))
        };
        let (actual, bytes) = read().map_err(|source| LayoutError::Io {
            path: path.clone(),
            source,
        })?;
        if actual != blob.size {
            return Err(LayoutError::WrongSize {
                path,
                expected: blob.size,
                actual,
            }
            .into());
        }
        Ok(bytes.into())
    }

    fn find_referrers(&self, subject: Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let fallback = format!("sha256-{}", subject.hex());
        let mut found = Vec::new();
        for entry in self.index()?.into_iter().take(MAX_LAYOUT_MANIFESTS) {
            let media_type = entry.media_type().as_ref().to_owned();
            let is_fallback = ref_name(&entry) == Some(&fallback);
            if !media::is_index(&media_type) && !media::is_manifest(&media_type) {
                continue;
            }
            let digest = self.digest_of(&entry)?;
            let manifest = match self.read_manifest(digest, Some(&media_type)) {
                Ok(manifest) => manifest,
                // Layouts may hold only some of the platforms that their index lists.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let malformed = |reason: String| LayoutError::Malformed {
                path: self.blob_path(digest),
                reason,
            };
            if is_fallback {
                found.extend(parse_referrers(&manifest.bytes).map_err(malformed)?);
                continue;
            }
            let referrer = Referrer::parse(&manifest.bytes).map_err(malformed)?;
            if referrer.subject_digest() == Some(subject) {
                let size = manifest.bytes.len() as u64;
                let own = referrer.entry(&media_type, digest, size);
                found.push(serde_json::from_value(own).map_err(|e| malformed(e.to_string()))?);
            }
        }
        Ok(found)
    }
}

fn ref_name(entry: &Descriptor) -> Option<&str> {
    entry
        .annotations()
        .as_ref()?
        .get(REF_NAME)
        .map(String::as_str)
}

/// Reads a document of at most a manifest's size.
fn read_document(path: PathBuf) -> Result<(PathBuf, Vec<u8>), LayoutError> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let file = open_regular(&path)?;
        let length = file.metadata()?.len();
        if length > MAX_MANIFEST_BYTES {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    };
    match read() {
        Ok(Some(bytes)) => Ok((path, bytes)),
        Ok(None) => {
            let reason = format!("larger than {MAX_MANIFEST_BYTES} bytes");
            Err(LayoutError::Malformed { path, reason })
        }
        Err(source) => Err(LayoutError::Io { path, source }),
    }
}

/// Opens a regular file; anything else, such as a FIFO that would block, is refused.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

#[cfg(test)]
mod tests;
