//! The layers the cache knows, open or not.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::LayerFile;
use super::leaf_table::LeafTable;
use super::local_stream::{LocalStream, PRESENT};
use super::scope;

/// What is known about one layer.
#[derive(Debug)]
pub(super) struct Entry {
    /// Loaded while there are users.
    pub(super) stream: Option<Arc<LocalStream>>,
    /// Handles and the evictor.
    pub(super) users: u32,
    pub(super) handle: Weak<LayerFile>,
    /// As of the last time it was loaded.
    pub(super) present_bytes: u64,
    pub(super) stream_size: u64,
    pub(super) last_used: SystemTime,
}

/// All layers by their directory below the root.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) entries: HashMap<PathBuf, Entry>,
}

impl Entry {
    pub(super) fn loaded(stream: Arc<LocalStream>) -> Entry {
        Entry {
            users: 0,
            handle: Weak::new(),
            present_bytes: 0,
            stream_size: stream.stream_size(),
            last_used: SystemTime::now(),
            stream: Some(stream),
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.handle.strong_count() > 0
    }

    pub(super) fn current_bytes(&self) -> u64 {
        match &self.stream {
            Some(stream) => stream.table().present_bytes(),
            None => self.present_bytes,
        }
    }
}

impl Catalog {
    /// Finds what earlier processes left. Unusable directories are removed: they hold nothing
    /// that could be verified.
    pub(super) fn scan(root: &Path) -> io::Result<Catalog> {
        let mut catalog = Catalog::default();
        for directory in scope::layer_directories(root)? {
            let path = root.join(&directory);
            let usable = scope::describe(&directory).and_then(|_| LocalStream::survey(&path));
            let Some(presence) = usable else {
                std::fs::remove_dir_all(&path)?;
                continue;
            };
            remove_temporary_files(&path)?;
            let last_used = std::fs::metadata(path.join(PRESENT))?.modified()?;
            let stream_size = presence.stream_size;
            let present_bytes = LeafTable::new(presence).present_bytes();
            let entry = Entry {
                stream: None,
                users: 0,
                handle: Weak::new(),
                present_bytes,
                stream_size,
                last_used,
            };
            catalog.entries.insert(directory, entry);
        }
        Ok(catalog)
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.entries.values().map(Entry::current_bytes).sum()
    }

    /// Layers nobody has open, the longest unused first.
    pub(super) fn idle(&self) -> Vec<PathBuf> {
        let mut idle: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.is_in_use())
            .collect();
        idle.sort_by(|a, b| (a.1.last_used, a.0).cmp(&(b.1.last_used, b.0)));
        idle.into_iter()
            .map(|(directory, _)| directory.clone())
            .collect()
    }

    /// Layers somebody has open, in the order the eviction hand visits them.
    pub(super) fn in_use(&self) -> Vec<PathBuf> {
        let in_use = self.entries.iter().filter(|(_, entry)| entry.is_in_use());
        let mut in_use: Vec<_> = in_use.map(|(directory, _)| directory.clone()).collect();
        in_use.sort();
        in_use
    }

    /// Counts a user and gives the stream, loading it when needed. `None` when the layer is
    /// not (or no longer) usable.
    pub(super) fn acquire(
        &mut self,
        root: &Path,
        dir: &Path,
    ) -> io::Result<Option<Arc<LocalStream>>> {
        let Some(entry) = self.entries.get_mut(dir) else {
            return Ok(None);
        };
        if entry.stream.is_none() {
            let path = root.join(dir);
            let Some(presence) = LocalStream::survey(&path) else {
                return Ok(None);
            };
            entry.stream = Some(Arc::new(LocalStream::open(&path, presence)?));
        }
        entry.users += 1;
        Ok(entry.stream.clone())
    }

    /// One user less; the last one unloads the stream. `used` says that the user was a reader,
    /// whose interest keeps a layer from being evicted soon.
    pub(super) fn release(&mut self, directory: &Path, used: bool) {
        let Some(entry) = self.entries.get_mut(directory) else {
            return;
        };
        entry.users = entry
            .users
            .checked_sub(1)
            .expect("every release follows its acquire");
        if used {
            entry.last_used = SystemTime::now();
        }
        if entry.users == 0 {
            entry.present_bytes = entry.current_bytes();
            entry.stream = None;
        }
    }
}

fn remove_temporary_files(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if brisk_durable::is_temporary(&entry.file_name()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
