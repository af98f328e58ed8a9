//! Writes one layer: a gzip-compressed tar with its digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use bench::registry::hex_digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// A written layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The compressed file.
    pub file: PathBuf,
    /// Digest of the compressed bytes.
    pub digest: String,
    /// Digest of the tar.
    pub diff_id: String,
    /// Bytes compressed.
    pub compressed_size: u64,
    /// Bytes of tar.
    pub stream_size: u64,
    /// The regular files in it, relative, with their sizes.
    pub files: Vec<(PathBuf, u64)>,
}

/// A layer being written.
pub struct LayerWriter {
    tar: Builder<Hashed<GzEncoder<Hashed<BufWriter<File>>>>>,
    file: PathBuf,
    directories: BTreeSet<PathBuf>,
    names: BTreeSet<PathBuf>,
    links: BTreeMap<(u64, u64), PathBuf>,
    files: Vec<(PathBuf, u64)>,
}

impl LayerWriter {
    /// Begins a layer in `file`; `compressed` counts the compressed bytes of all layers.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn create(file: &Path, compressed: Arc<AtomicU64>) -> Result<Self> {
        let out = File::create(file).with_context(|| format!("creating {}", file.display()))?;
        let inner = Hashed::new(BufWriter::new(out), compressed);
        let gzip = GzEncoder::new(inner, Compression::new(6));
        let mut tar = Builder::new(Hashed::new(gzip, Arc::default()));
        tar.follow_symlinks(false);
        tar.sparse(false);
        Ok(LayerWriter {
            tar,
            file: file.to_owned(),
            directories: BTreeSet::new(),
            names: BTreeSet::new(),
            links: BTreeMap::new(),
            files: Vec::new(),
        })
    }

    /// Adds a file, directory or symlink of this machine under its own path, its parents
    /// before it. Other kinds, and what is in the layer already, are passed over.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn add(&mut self, path: &Path) -> Result<()> {
        let name = path.strip_prefix("/").unwrap_or(path).to_owned();
        let metadata = path
            .symlink_metadata()
            .with_context(|| path.display().to_string())?;
        let kind = metadata.file_type();
        if !(kind.is_file() || kind.is_symlink()) || !self.names.insert(name.clone()) {
            return Ok(());
        }
        self.add_parents(&name)?;
        if kind.is_file() && metadata.nlink() > 1 {
            let first = self.links.get(&(metadata.dev(), metadata.ino())).cloned();
            if let Some(first) = first {
                return self.add_hard_link(&name, &first);
            }
            self.links
                .insert((metadata.dev(), metadata.ino()), name.clone());
        }
        self.tar
            .append_path_with_name(path, &name)
            .with_context(|| path.display().to_string())?;
        if kind.is_file() {
            self.files.push((name, metadata.len()));
        }
        Ok(())
    }

    fn add_parents(&mut self, name: &Path) -> Result<()> {
        let mut parents: Vec<&Path> = name.ancestors().skip(1).collect();
        parents.pop();
        for parent in parents.into_iter().rev() {
            if self.directories.insert(parent.to_owned()) {
                self.tar
                    .append_path_with_name(Path::new("/").join(parent), parent)
                    .with_context(|| parent.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Adds a hard link to what the layer holds at `target`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add_hard_link(&mut self, name: &Path, target: &Path) -> Result<()> {
        let mut header = header(EntryType::Link, 0o644);
        Ok(self.tar.append_link(&mut header, name, target)?)
    }

    /// Adds a symlink.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add_symlink(&mut self, name: &Path, target: &Path) -> Result<()> {
        let mut header = header(EntryType::Symlink, 0o777);
        Ok(self.tar.append_link(&mut header, name, target)?)
    }

    /// Adds a directory that this machine need not have.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add_directory(&mut self, name: &str) -> Result<()> {
        let mut header = header(EntryType::Directory, 0o755);
        Ok(self.tar.append_data(&mut header, name, io::empty())?)
    }

    /// Adds a file with this content.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add_content(&mut self, name: &Path, content: &[u8]) -> Result<()> {
        let mut header = header(EntryType::Regular, 0o755);
        header.set_size(content.len() as u64);
        Ok(self.tar.append_data(&mut header, name, content)?)
    }

    /// Ends the layer.
    ///
    /// # Errors
    /// Where its end cannot be written.
    pub fn finish(self) -> Result<Layer> {
        let stream = self.tar.into_inner()?;
        let (diff_id, stream_size) = (hex_digest(stream.hasher), stream.bytes);
        let mut compressed = stream.inner.finish()?;
        compressed.flush()?;
        Ok(Layer {
            file: self.file,
            digest: hex_digest(compressed.hasher),
            diff_id,
            compressed_size: compressed.bytes,
            stream_size,
            files: self.files,
        })
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// Passes bytes on, hashed and counted.
struct Hashed<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
    total: Arc<AtomicU64>,
}

impl<W> Hashed<W> {
    fn new(inner: W, total: Arc<AtomicU64>) -> Self {
        Hashed {
            inner,
            hasher: Sha256::new(),
            bytes: 0,
            total,
        }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        self.total.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
