//! Indexes on disk: one a layer and scope, and the merged ones that mounts are made of.
//!
//! ```text
//! indexes/trusted/LAYER.index
//! indexes/untrusted/OWNER/LAYER.index      OWNER: digest of repository and index identity
//! indexes/.../LAYER.SECTION                a cold section that was fetched by itself
//! indexes/merged/DIGEST.index
//! indexes/condemned/DIGEST                 an index that contradicts its layer
//! ```
//!
//! A file here was validated before it was written, and is never changed, only replaced.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use index_format::{Digest, Index, IndexKind, SectionId};
use sys::map::MappedFile;

use crate::error::{ImageError, on_file};
use brisk_cache::{LayerKey, Scope};

/// The indexes below one root.
#[derive(Clone, Debug)]
pub struct IndexStore {
    directory: PathBuf,
    sound: Arc<Mutex<HashMap<PathBuf, Stamp>>>,
}

/// Which file of a name was found sound: device, inode, size, and its times of modification and
/// of change in seconds and nanoseconds.
type Stamp = [i64; 7];

impl IndexStore {
    /// The store below `root`; its directories are created as they are needed.
    pub fn new(root: &Path) -> Self {
        IndexStore {
            directory: root.join("indexes"),
            sound: Arc::default(),
        }
    }

    /// The index of a layer in that scope, if it is there and can be used.
    ///
    /// One that cannot (damaged, of a version that this program does not know, of another layer)
    /// counts as absent: it is named in the log and the next source is asked.
    pub fn load(&self, key: &LayerKey) -> Option<Index> {
        let path = self.path(key);
        told(&path, self.examine_layer(key, &path))
    }

    /// Why the index of a layer that is on disk cannot be used; none where there is no file, or a
    /// sound one.
    pub fn problem(&self, key: &LayerKey) -> Option<String> {
        let path = self.path(key);
        let why = self.examine_layer(key, &path).err()?;
        Some(format!(
            "the local index {} cannot be used: {why}",
            path.display()
        ))
    }

    /// Keeps the validated index `bytes` of a layer.
    ///
    /// # Errors
    /// Where the disk cannot take it.
    pub fn store(&self, key: &LayerKey, bytes: &[u8]) -> Result<Index, ImageError> {
        let path = self.path(key);
        write(&path, bytes)?;
        self.open(&path).ok_or_else(|| unreadable(&path))
    }

    /// Makes the index of a layer that has been closed the trusted one.
    ///
    /// # Errors
    /// Where the disk cannot take it.
    pub fn promote(&self, key: &LayerKey) -> Result<(), ImageError> {
        let trusted = LayerKey::trusted(key.layer);
        if *key == trusted || self.path(&trusted).exists() {
            return Ok(());
        }
        let from = self.path(key);
        let bytes = fs::read(&from).map_err(on_file("reading", &from))?;
        write(&self.path(&trusted), &bytes)?;
        for section in cold() {
            if let Ok(bytes) = fs::read(self.section_path(key, section)) {
                write(&self.section_path(&trusted, section), &bytes)?;
            }
        }
        Ok(())
    }

    /// Remembers that an index contradicts its layer, so that it is never accepted again.
    ///
    /// # Errors
    /// Where the disk cannot take it.
    pub fn condemn(&self, identity: Digest) -> Result<(), ImageError> {
        write(&self.condemned_path(identity), b"contradicts its layer\n")
    }

    /// True where an index was found to contradict its layer.
    pub fn is_condemned(&self, identity: Digest) -> bool {
        self.condemned_path(identity).exists()
    }

    /// Forgets the index of a layer; one that is not there is no error.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove(&self, key: &LayerKey) -> Result<(), ImageError> {
        for section in cold() {
            remove(&self.section_path(key, section))?;
        }
        remove(&self.path(key))
    }

    /// The merged index with that identity.
    pub fn load_merged(&self, digest: Digest) -> Option<Index> {
        self.open(&self.merged_path(digest))
            .filter(|index| index.digest() == digest)
    }

    /// Keeps a merged index under its identity.
    ///
    /// # Errors
    /// Where the disk cannot take it.
    pub fn store_merged(&self, bytes: &[u8]) -> Result<Index, ImageError> {
        let digest = Index::open(bytes.to_vec())
            .map_err(|e| ImageError::Worker(format!("a merged index of our own: {e}")))?
            .digest();
        if let Some(index) = self.load_merged(digest) {
            // Never replaced: a mount may have it mapped, under the very same identity.
            return Ok(index);
        }
        let path = self.merged_path(digest);
        write(&path, bytes)?;
        self.open(&path).ok_or_else(|| unreadable(&path))
    }

    /// Removes every file that `keep` and `keep_merged` do not name.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn retain(&self, keep: &[LayerKey], keep_merged: &[Digest]) -> Result<(), ImageError> {
        let stems: Vec<PathBuf> = keep.iter().map(|key| self.stem(key)).collect();
        let merged: Vec<PathBuf> = keep_merged
            .iter()
            .map(|d| self.merged_path(*d).with_extension(""))
            .collect();
        for file in files(&self.directory) {
            let stem = file.with_extension("");
            if file.starts_with(self.directory.join("condemned")) {
                continue;
            }
            if !stems.contains(&stem) && !merged.contains(&stem) {
                remove(&file)?;
                let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
                sound.remove(&file);
            }
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> Option<Index> {
        told(path, self.examine(path))
    }

    /// The index of that layer in a file; none where there is no file, else what is wrong.
    fn examine_layer(&self, key: &LayerKey, path: &Path) -> Result<Option<Index>, String> {
        let Some(index) = self.examine(path)? else {
            return Ok(None);
        };
        match (index.kind(), index.layer_digest()) {
            (IndexKind::Layer, layer) if layer == key.layer => Ok(Some(index)),
            (IndexKind::Layer, layer) => Err(format!("it is of layer {layer}")),
            _ => Err("it is not the index of a layer".to_owned()),
        }
    }

    /// The index in a file, checked byte by byte when this process sees the file for the first
    /// time; none where there is no file, else what is wrong.
    fn examine(&self, path: &Path) -> Result<Option<Index>, String> {
        let (stamp, map) = match stamp(path).and_then(|s| Ok((s, MappedFile::open(path)?))) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let index = Index::open(map).map_err(|error| error.to_string())?;
        let sound = || self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = sound().get(path) == Some(&stamp);
        if !is_known {
            index.validate().map_err(|error| error.to_string())?;
            sound().insert(path.to_path_buf(), stamp);
        }
        Ok(Some(index))
    }

    fn stem(&self, key: &LayerKey) -> PathBuf {
        let directory = match &key.scope {
            Scope::Trusted => self.directory.join("trusted"),
            Scope::Untrusted { repository, index } => {
                let owner = Digest::of(format!("{repository}\n{index}").as_bytes());
                self.directory.join("untrusted").join(owner.hex())
            }
        };
        directory.join(key.layer.hex())
    }

    /// Where the index of a layer is kept.
    pub fn path(&self, key: &LayerKey) -> PathBuf {
        self.stem(key).with_extension("index")
    }

    /// Where a cold section is kept that was fetched by itself.
    pub fn section_path(&self, key: &LayerKey, section: SectionId) -> PathBuf {
        self.stem(key).with_extension(section.number().to_string())
    }

    fn condemned_path(&self, identity: Digest) -> PathBuf {
        self.directory.join("condemned").join(identity.hex())
    }

    fn merged_path(&self, digest: Digest) -> PathBuf {
        self.directory
            .join("merged")
            .join(digest.hex())
            .with_extension("index")
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let file = fs::metadata(path)?;
    Ok([
        file.dev().cast_signed(),
        file.ino().cast_signed(),
        file.size().cast_signed(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ])
}

/// What was found; what is wrong with it goes to the log.
fn told(path: &Path, examined: Result<Option<Index>, String>) -> Option<Index> {
    examined.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), error, "index cannot be used");
        None
    })
}

/// The sections that are not needed before a mount.
fn cold() -> impl Iterator<Item = SectionId> {
    SectionId::ALL
        .into_iter()
        .filter(|section| section.is_cold())
}

fn unreadable(path: &Path) -> ImageError {
    ImageError::Worker(format!("{} cannot be read back", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(on_file("creating", parent))?;
    }
    // Nothing here is a directory of ours, and rename(2) does not replace one.
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        fs::remove_dir_all(path).map_err(on_file("removing", path))?;
    }
    brisk_durable::write_file(path, bytes).map_err(on_file("writing", path))
}

fn remove(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(on_file("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// Every regular file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found
}
