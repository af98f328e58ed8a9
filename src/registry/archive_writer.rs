//! Tar archives with an image layout, written: under their name only when they are complete.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use index_format::Digest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::blob::BlobRef;
use crate::error::RegistryError;
use crate::layout_error::LayoutError;
use crate::layout_writer::{LAYOUT_HEADER, index_of, set_tag};
use crate::upload::{ContentRange, Uploaded};

/// A tar record: headers and content begin at multiples of it (POSIX.1, pax).
const RECORD: u64 = 512;

/// Writes an archive. One that is dropped before [`ArchiveWriter::finish`] leaves nothing.
#[derive(Debug)]
pub struct ArchiveWriter {
    file: PathBuf,
    growing: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    out: BufWriter<File>,
    written: HashSet<Digest>,
    entries: Vec<Value>,
}

impl ArchiveWriter {
    /// Begins an archive, beside the place that it will have.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn create(file: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let file = file.into();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let growing = file.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        let on_file = |source| LayoutError::Io {
            path: growing.clone(),
            source,
        };
        let out = BufWriter::new(File::create(&growing).map_err(on_file)?);
        let writer = Self {
            file,
            growing,
            state: Mutex::new(State {
                out,
                written: HashSet::new(),
                entries: Vec::new(),
            }),
        };
        Ok(writer)
    }

    /// Writes a blob, unless the archive has it.
    ///
    /// # Errors
    /// See [`RegistryError`]; `DigestMismatch` where `content` does not give that blob: the
    /// archive is then of no more use.
    pub async fn put_blob(
        &self,
        blob: BlobRef,
        content: ContentRange<'_>,
    ) -> Result<Uploaded, RegistryError> {
        // Members stand one after the other: one writes at a time.
        let mut state = self.state.lock().await;
        if !state.written.insert(blob.digest) {
            return Ok(Uploaded::WasThere);
        }
        let on_file = |source| self.on_file(source);
        let name = format!("blobs/sha256/{}", blob.digest.hex());
        begin_member(&mut state.out, &name, blob.size).map_err(on_file)?;
        let mut hasher = Sha256::new();
        let mut at = 0;
        let mut arriving = content(0..blob.size);
        while let Some(bytes) = arriving.try_next().await? {
            hasher.update(&bytes);
            state.out.write_all(&bytes).map_err(on_file)?;
            at += bytes.len() as u64;
        }
        end_member(&mut state.out, at).map_err(on_file)?;
        let actual = Digest::from_bytes(hasher.finalize().into());
        match at == blob.size && actual == blob.digest {
            true => Ok(Uploaded::Sent),
            false => Err(RegistryError::DigestMismatch {
                at: self.growing.display().to_string(),
                expected: blob.digest,
                actual,
            }),
        }
    }

    /// Writes a manifest or image index.
    ///
    /// # Errors
    /// Where the system refuses.
    pub async fn put_manifest(&self, bytes: &[u8]) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let mut state = self.state.lock().await;
        if state.written.insert(digest) {
            let name = format!("blobs/sha256/{}", digest.hex());
            put_member(&mut state.out, &name, bytes).map_err(|error| self.on_file(error))?;
        }
        Ok(digest)
    }

    /// Lists a manifest in the layout's index, under a tag or without one.
    pub async fn list(&self, mut entry: Value, tag: Option<&str>) {
        set_tag(&mut entry, tag);
        let mut state = self.state.lock().await;
        if !state.entries.contains(&entry) {
            state.entries.push(entry);
        }
    }

    /// Completes the archive and gives it its name, replacing a file that has it.
    ///
    /// # Errors
    /// Where the system refuses; nothing is replaced then.
    pub async fn finish(&self) -> Result<(), RegistryError> {
        let mut state = self.state.lock().await;
        let index = index_of(std::mem::take(&mut state.entries)).to_string();
        let mut finish = || -> io::Result<()> {
            put_member(&mut state.out, "oci-layout", LAYOUT_HEADER.as_bytes())?;
            put_member(&mut state.out, "index.json", index.as_bytes())?;
            // Two records of zeros end an archive.
            let end = usize::try_from(2 * RECORD).unwrap_or(0);
            state.out.write_all(&vec![0; end])?;
            state.out.flush()?;
            state.out.get_ref().sync_all()?;
            fs::rename(&self.growing, &self.file)?;
            let parent = self.file.parent().filter(|p| !p.as_os_str().is_empty());
            brisk_durable::sync_directory(parent.unwrap_or(Path::new(".")))
        };
        finish().map_err(|error| self.on_file(error))
    }

    fn on_file(&self, source: io::Error) -> RegistryError {
        let path = self.growing.clone();
        LayoutError::Io { path, source }.into()
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        // After `finish` it has another name.
        let _ = fs::remove_file(&self.growing);
    }
}

fn begin_member(out: &mut impl Write, name: &str, size: u64) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_path(name)?;
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

fn end_member(out: &mut impl Write, size: u64) -> io::Result<()> {
    let padding = size.next_multiple_of(RECORD) - size;
    out.write_all(&vec![
        0;
        usize::try_from(padding).map_err(io::Error::other)?
    ])
}

fn put_member(out: &mut impl Write, name: &str, content: &[u8]) -> io::Result<()> {
    begin_member(out, name, content.len() as u64)?;
    out.write_all(content)?;
    end_member(out, content.len() as u64)
}

#[cfg(test)]
mod tests;
