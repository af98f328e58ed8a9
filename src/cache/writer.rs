//! Writing a whole layer in stream order, for a pull that has no index yet.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use index_format::LEAF_SIZE;

use super::bitmap::LeafSet;
use super::local_stream::{self, LocalStream, STREAM};
use super::presence::{self, Presence};
use super::root::{self, Shared};
use super::{Cache, CacheError, LayerFile, LayerKey, Priority};

/// Whether a layer's bytes are all on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All so far.
    Whole,
    /// Some leaves found no room; they will have to be fetched when they are read.
    Partly,
}

/// A layer being written. Nothing of it can be read before `commit`, and dropping it without
/// leaves nothing behind: the digest of the whole is known only at the end.
#[derive(Debug)]
pub struct LayerWriter {
    cache: Cache,
    key: LayerKey,
    directory: PathBuf,
    stream: File,
    /// Bytes of the leaf being filled.
    partial: Vec<u8>,
    /// Leaves written out or skipped.
    leaves: u64,
    /// Of these, the ones that found no room.
    skipped: Vec<u64>,
    /// Bytes this writer has reserved in the budget.
    reserved: u64,
    /// The files have gone to the cache's own place.
    handed_over: bool,
}

impl LayerWriter {
    pub(super) fn new(
        cache: Cache,
        key: LayerKey,
        directory: PathBuf,
    ) -> Result<LayerWriter, CacheError> {
        fs::create_dir(&directory).map_err(CacheError::io("create", &directory))?;
        let path = directory.join(STREAM);
        let stream = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        Ok(LayerWriter {
            cache,
            key,
            stream: stream.map_err(CacheError::io("create", &path))?,
            directory,
            partial: Vec::with_capacity(LEAF_SIZE as usize),
            leaves: 0,
            skipped: Vec::new(),
            reserved: 0,
            handed_over: false,
        })
    }

    /// Bytes appended so far.
    pub fn stream_size(&self) -> u64 {
        self.leaves * LEAF_SIZE + self.partial.len() as u64
    }

    /// Adds the next bytes of the stream. That some could not be kept is no error.
    ///
    /// # Errors
    /// `TooLarge` when the stream grows beyond what the cache accepts.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<Written, CacheError> {
        root::check_size(
            &self.key,
            self.stream_size().saturating_add(bytes.len() as u64),
        )?;
        while !bytes.is_empty() {
            let room = LEAF_SIZE as usize - self.partial.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.partial.extend_from_slice(now);
            bytes = later;
            if self.partial.len() as u64 == LEAF_SIZE {
                self.finish_leaf();
            }
        }
        Ok(self.written())
    }

    fn written(&self) -> Written {
        if self.skipped.is_empty() {
            Written::Whole
        } else {
            Written::Partly
        }
    }

    /// Writes the filled leaf out, or skips it.
    fn finish_leaf(&mut self) {
        let length = self.partial.len() as u64;
        let shared = self.cache.shared();
        let mut kept = shared.reserve(length, Priority::Demand);
        if kept
            && let Err(error) = self
                .stream
                .write_all_at(&self.partial, self.leaves * LEAF_SIZE)
        {
            tracing::debug!(key = %self.key, leaf = self.leaves, %error, "a leaf could not be written");
            // Some of its bytes may be there.
            let _ = local_stream::punch(&self.stream, self.leaves..self.leaves + 1);
            shared.release(length);
            kept = false;
        }
        if kept {
            self.reserved += length;
        } else {
            shared.count_not_kept();
            self.skipped.push(self.leaves);
        }
        self.leaves += 1;
        self.partial.clear();
    }

    /// Makes the layer readable. The caller has verified the digest of the whole; the bytes
    /// are trusted as they were written.
    ///
    /// # Errors
    /// `Io` when the files cannot be put in place, `SizeDiffers` when the layer is open with
    /// another size; nothing is left behind then.
    pub fn commit(mut self) -> Result<Arc<LayerFile>, CacheError> {
        let stream_size = self.stream_size();
        if !self.partial.is_empty() {
            self.finish_leaf();
        }
        let cache = self.cache.clone();
        let shared = cache.shared();
        let _changes = shared.changes();
        let directory = self.key.directory();
        if shared.catalog().entries.contains_key(&directory) {
            let file = shared.open_layer(&self.key, stream_size)?;
            self.copy_into(&file)?;
            return Ok(file);
        }
        self.put_in_place(shared, stream_size)
    }

    /// Leaves that were written.
    fn present(&self, stream_size: u64) -> LeafSet {
        let mut present = LeafSet::new(presence::leaf_count(stream_size));
        for leaf in 0..self.leaves {
            present.insert(leaf);
        }
        for leaf in &self.skipped {
            present.remove(*leaf);
        }
        present
    }

    fn put_in_place(
        &mut self,
        shared: &Arc<Shared>,
        stream_size: u64,
    ) -> Result<Arc<LayerFile>, CacheError> {
        let failed = CacheError::io("finish", &self.directory);
        let present = self.present(stream_size);
        let presence = Presence {
            present,
            ..Presence::empty(stream_size)
        };
        let stream = self.stream.set_len(stream_size).and_then(|()| {
            let stream = self.stream.try_clone()?;
            LocalStream::adopt(&self.directory, stream, presence)
        });
        let stream = stream.map_err(failed)?;
        let directory = self.key.directory();
        let path = shared.root.join(&directory);
        root::move_directory(&self.directory, &path)?;
        self.handed_over = true;
        stream.moved_to(path);
        let stream = shared.insert(&mut shared.catalog(), &directory, Arc::new(stream));
        shared.enter(&self.key, &directory, stream)
    }

    /// The layer has a copy already, and maybe readers: they get what was missing.
    fn copy_into(&mut self, file: &LayerFile) -> Result<(), CacheError> {
        let present = self.present(file.stream_size());
        for leaf in (0..self.leaves).filter(|leaf| present.contains(*leaf)) {
            let start = leaf * LEAF_SIZE;
            let mut bytes = vec![0; LEAF_SIZE.min(file.stream_size() - start) as usize];
            let read = self.stream.read_exact_at(&mut bytes, start);
            // Room for the copy is made by giving this one up.
            if local_stream::punch(&self.stream, leaf..leaf + 1).is_ok() {
                self.cache.shared().release(bytes.len() as u64);
                self.reserved -= bytes.len() as u64;
            }
            if read.is_ok() {
                file.store(leaf, &bytes, Priority::Demand)?;
            }
        }
        Ok(())
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        if self.handed_over {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::debug!(directory = ?self.directory, %error, "left for the next start");
        }
        self.cache.shared().release(self.reserved);
    }
}
