//! The files of an image layout, in a directory or in a tar archive, read by blocking calls.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use index_format::Digest;
use oci_spec::image::Descriptor;
use rustix::fs::OFlags;
use serde::Deserialize;

use crate::archive::Members;
use crate::blob::BlobRef;
use crate::error::RegistryError;
use crate::layout_error::LayoutError;
use crate::limits::{MAX_LAYOUT_MANIFESTS, MAX_MANIFEST_BYTES, MAX_RANGE_BYTES};
use crate::manifest::{Manifest, media_type};
use crate::media;
use crate::push::Referrer;
use crate::referrers::parse_referrers;

/// The annotation with an entry's tag (image specification, "Annotations").
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct LayoutHeader {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Deserialize)]
struct LayoutIndex {
    manifests: Vec<Descriptor>,
}

/// An image layout directory. Blobs are named by typed digests only, so that no document can
/// lead out of it.
#[derive(Clone, Debug)]
pub(super) struct LayoutDirectory {
    pub(super) dir: PathBuf,
    /// Where `dir` is a tar archive: its members, whose names are paths below it.
    pub(super) archive: Option<Arc<Members>>,
}

impl LayoutDirectory {
    pub(super) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    fn index(&self) -> Result<Vec<Descriptor>, LayoutError> {
        let not_a_layout = |reason: String| LayoutError::NotALayout {
            dir: self.dir.clone(),
            reason,
        };
        let (_, header) = self
            .read_document(self.dir.join("oci-layout"))
            .map_err(|error| {
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
        let (path, index) = self.read_document(self.dir.join("index.json"))?;
        let index: LayoutIndex =
            serde_json::from_slice(&index).map_err(|error| LayoutError::Malformed {
                path,
                reason: error.to_string(),
            })?;
        Ok(index.manifests)
    }

    pub(super) fn entry(&self, tag: Option<&str>) -> Result<Descriptor, LayoutError> {
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

    pub(super) fn digest_of(&self, entry: &Descriptor) -> Result<Digest, LayoutError> {
        entry
            .digest()
            .as_ref()
            .parse()
            .map_err(|_| LayoutError::Malformed {
                path: self.dir.join("index.json"),
                reason: format!("digest {:?} is not supported", entry.digest().as_ref()),
            })
    }

    pub(super) fn read_manifest(
        &self,
        digest: Digest,
        described: Option<&str>,
    ) -> Result<Manifest, RegistryError> {
        let (path, bytes) = self.read_document(self.blob_path(digest))?;
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

    pub(super) fn read_range(
        &self,
        blob: BlobRef,
        wanted: Range<u64>,
    ) -> Result<Bytes, RegistryError> {
        let path = self.blob_path(blob.digest);
        let length = blob.check(&wanted, MAX_RANGE_BYTES, || path.display().to_string())?;
        let read = || -> io::Result<(u64, Vec<u8>)> {
            let (file, place) = self.open(&path)?;
            let actual = place.end - place.start;
            let mut bytes = Vec::new();
            if actual == blob.size {
                bytes.resize(length, 0);
                file.read_exact_at(&mut bytes, place.start + wanted.start)?;
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

    /// Opens a file of the layout; gives it, and where in it the content lies.
    fn open(&self, path: &Path) -> io::Result<(File, Range<u64>)> {
        let Some(members) = &self.archive else {
            let file = open_regular(path)?;
            let length = file.metadata()?.len();
            return Ok((file, 0..length));
        };
        let place = path
            .strip_prefix(&self.dir)
            .ok()
            .and_then(|name| members.place(name))
            .ok_or(io::ErrorKind::NotFound)?;
        Ok((open_regular(&self.dir)?, place))
    }

    /// Reads a document of at most a manifest's size.
    fn read_document(&self, path: PathBuf) -> Result<(PathBuf, Vec<u8>), LayoutError> {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let (file, place) = self.open(&path)?;
            let length = place.end - place.start;
            if length > MAX_MANIFEST_BYTES {
                return Ok(None);
            }
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, place.start)?;
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

    pub(super) fn find_referrers(&self, subject: Digest) -> Result<Vec<Descriptor>, RegistryError> {
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

pub(super) fn ref_name(entry: &Descriptor) -> Option<&str> {
    entry
        .annotations()
        .as_ref()?
        .get(REF_NAME)
        .map(String::as_str)
}

/// Opens a regular file; anything else, such as a FIFO that would block, is refused.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
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
