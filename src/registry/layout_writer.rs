//! Image layout directories, written: blob by blob, each under its name only when it is whole
//! and verified; what an interrupted transfer left is gone on with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use index_format::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::blob::BlobRef;
use crate::error::RegistryError;
use crate::layout_directory::REF_NAME;
use crate::layout_error::LayoutError;
use crate::limits::MAX_MANIFEST_BYTES;
use crate::media;
use crate::upload::{ContentRange, Uploaded};

/// Where blobs lie that have not arrived whole. No reader of layouts looks into it.
const PARTIAL: &str = ".partial";
/// The content of the file `oci-layout`.
pub(super) const LAYOUT_HEADER: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Bytes of a partial blob read at a time, to digest them.
const STEP: usize = 1 << 20;

/// Writes an image layout directory.
#[derive(Clone, Debug)]
pub struct LayoutWriter {
    dir: PathBuf,
}

impl LayoutWriter {
    /// Opens a layout to be written to, or makes one in an empty or new directory.
    ///
    /// # Errors
    /// `Layout` for a directory with something else in it, or where the system refuses.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let dir = dir.into();
        let make = || -> io::Result<bool> {
            fs::create_dir_all(&dir)?;
            let is_layout = dir.join("oci-layout").exists();
            let is_empty = fs::read_dir(&dir)?.next().is_none();
            if !is_layout && !is_empty {
                return Ok(false);
            }
            fs::create_dir_all(dir.join("blobs/sha256"))?;
            if !is_layout {
                let index = index_of(Vec::new()).to_string();
                brisk_durable::write_file(&dir.join("index.json"), index.as_bytes())?;
                // Last: what has this file is a layout.
                brisk_durable::write_file(&dir.join("oci-layout"), LAYOUT_HEADER.as_bytes())?;
            }
            Ok(true)
        };
        match make() {
            Ok(true) => Ok(Self { dir }),
            Ok(false) => Err(LayoutError::NotALayout {
                dir,
                reason: "it has other files in it, and no oci-layout".to_owned(),
            }
            .into()),
            Err(source) => Err(LayoutError::Io { path: dir, source }.into()),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// Writes a blob, unless the layout has it; goes on with one that did not arrive whole.
    ///
    /// # Errors
    /// See [`RegistryError`]; `DigestMismatch` where `content` does not give that blob. What has
    /// arrived is kept for the next attempt, unless it is wrong.
    pub async fn put_blob(
        &self,
        blob: BlobRef,
        content: ContentRange<'_>,
    ) -> Result<Uploaded, RegistryError> {
        let path = self.path(blob.digest);
        if fs::metadata(&path).is_ok_and(|found| found.len() == blob.size) {
            return Ok(Uploaded::WasThere);
        }
        let partial = self.dir.join(PARTIAL).join(blob.digest.hex());
        match self.receive(blob, content, &partial).await {
            // What an earlier attempt left may be what is wrong.
            Err((RegistryError::DigestMismatch { .. }, true)) => {
                self.receive(blob, content, &partial).await
            }
            other => other,
        }
        .map_err(|(error, _)| error)?;
        let keep = || -> io::Result<()> {
            fs::rename(&partial, &path)?;
            brisk_durable::sync_directory(&self.dir.join("blobs/sha256"))?;
            // It goes when nothing is left in it.
            let _ = fs::remove_dir(self.dir.join(PARTIAL));
            Ok(())
        };
        keep().map_err(|source| LayoutError::Io { path, source })?;
        Ok(Uploaded::Sent)
    }

    /// Completes a partial blob and verifies it. An error says whether an earlier attempt's
    /// bytes were part of it.
    async fn receive(
        &self,
        blob: BlobRef,
        content: ContentRange<'_>,
        partial: &Path,
    ) -> Result<(), (RegistryError, bool)> {
        let on_partial = |source| {
            let path = partial.to_path_buf();
            RegistryError::from(LayoutError::Io { path, source })
        };
        let resumed = resume(partial, blob.size).map_err(|error| (on_partial(error), false))?;
        let (mut file, mut hasher, mut at) = resumed;
        let was_there = at > 0;
        let received = async {
            let mut arriving = content(at..blob.size);
            while let Some(bytes) = arriving.try_next().await? {
                hasher.update(&bytes);
                file.write_all(&bytes).map_err(on_partial)?;
                at += bytes.len() as u64;
            }
            let actual = Digest::from_bytes(hasher.finalize().into());
            if at != blob.size || actual != blob.digest {
                let _ = fs::remove_file(partial);
                return Err(RegistryError::DigestMismatch {
                    at: partial.display().to_string(),
                    expected: blob.digest,
                    actual,
                });
            }
            file.sync_all().map_err(on_partial)
        };
        received.await.map_err(|error| (error, was_there))
    }

    /// Writes a manifest or image index.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn put_manifest(&self, bytes: &[u8]) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let path = self.path(digest);
        brisk_durable::write_file(&path, bytes)
            .map_err(|source| LayoutError::Io { path, source })?;
        Ok(digest)
    }

    /// Lists a manifest in the layout's index: under a tag, which it takes from another, or
    /// without one.
    ///
    /// # Errors
    /// Where the index is none, or the system refuses.
    pub fn list(&self, mut entry: Value, tag: Option<&str>) -> Result<(), RegistryError> {
        let path = self.dir.join("index.json");
        let on_index = |source| LayoutError::Io {
            path: path.clone(),
            source,
        };
        // Two writers of one layout do not lose each other's entries.
        let lock = File::open(&self.dir).map_err(on_index)?;
        lock.lock().map_err(on_index)?;
        let mut text = Vec::new();
        let opened = File::open(&path).map_err(on_index)?;
        opened
            .take(MAX_MANIFEST_BYTES)
            .read_to_end(&mut text)
            .map_err(on_index)?;
        let malformed = |reason: &str| LayoutError::Malformed {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let mut index: Value =
            serde_json::from_slice(&text).map_err(|error| malformed(&error.to_string()))?;
        let entries = index["manifests"]
            .as_array_mut()
            .ok_or_else(|| malformed("it has no list of manifests"))?;
        set_tag(&mut entry, tag);
        let name = |entry: &Value| entry["annotations"][REF_NAME].as_str().map(str::to_owned);
        let is_replaced = |other: &Value| match tag {
            Some(tag) => name(other).as_deref() == Some(tag),
            None => name(other).is_none() && other["digest"] == entry["digest"],
        };
        entries.retain(|other| !is_replaced(other));
        entries.push(entry);
        brisk_durable::write_file(&path, index.to_string().as_bytes()).map_err(on_index)?;
        Ok(())
    }
}

/// A layout's index with these entries.
pub(super) fn index_of(entries: Vec<Value>) -> Value {
    json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries })
}

/// Gives an entry of a layout's index its tag.
pub(super) fn set_tag(entry: &mut Value, tag: Option<&str>) {
    if let Some(tag) = tag {
        entry["annotations"][REF_NAME] = tag.into();
    }
}

/// Opens a partial blob and digests what it has: at most the blob's size.
fn resume(partial: &Path, size: u64) -> io::Result<(File, Sha256, u64)> {
    if let Some(parent) = partial.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(partial)?;
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::Error(error) => error,
        fs::TryLockError::WouldBlock => io::Error::other("another process is writing it"),
    })?;
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok((file, hasher, at));
        }
        hasher.update(&buffer[..length]);
        at += length as u64;
    }
}

#[cfg(test)]
mod tests;
