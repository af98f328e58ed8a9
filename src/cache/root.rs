//! The cache as a whole: opening it, its layers, what it holds.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use index_format::Digest;

use super::budget::Ledger;
use super::catalog::{Catalog, Entry};
use super::evict::Hand;
use super::local_stream::{self, LocalStream};
use super::presence::MAX_STREAM_SIZE;
use super::scope;
use super::{Budget, CacheError, LayerFile, LayerKey, LayerWriter, Usage};

const LOCK: &str = "lock";
const INCOMING: &str = "incoming";

/// The local cache of layers. One process at a time; cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

/// Unit of `st_blocks`.
const BLOCK: u64 = 512;

/// One layer as `status` and pruning see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerUsage {
    /// Digest of the compressed layer.
    pub layer: Digest,
    /// Whether its leaves were verified by a trusted index.
    pub trusted: bool,
    /// Size of the whole stream in bytes.
    pub stream_bytes: u64,
    /// Bytes of it that are here.
    pub present_bytes: u64,
    /// Somebody has it open.
    pub in_use: bool,
}

/// What handles and writers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) root: PathBuf,
    /// Locked as long as the cache is open.
    _lock: File,
    pub(super) ledger: Ledger,
    catalog: Mutex<Catalog>,
    /// Opening, removing and promoting happen one at a time. Taken before `hand`.
    changes: Mutex<()>,
    /// Held by the one thread that evicts. Taken before `catalog`.
    pub(super) hand: Mutex<Hand>,
    serial: AtomicU64,
}

impl Cache {
    /// Opens the cache at `root`, making the directory if needed, and counts what is there.
    ///
    /// # Errors
    /// `Locked` when another process has it open; `Io` when the directory is not usable, for
    /// instance on a filesystem that cannot punch holes.
    pub fn open(root: &Path, budget: Budget) -> Result<Cache, CacheError> {
        fs::create_dir_all(root).map_err(CacheError::io("create", root))?;
        let lock = take_lock(&root.join(LOCK), root)?;
        let incoming = root.join(INCOMING);
        if incoming.exists() {
            fs::remove_dir_all(&incoming).map_err(CacheError::io("empty", &incoming))?;
        }
        fs::create_dir(&incoming).map_err(CacheError::io("create", &incoming))?;
        probe_holes(&incoming).map_err(CacheError::io("punch a hole in a file of", root))?;
        let catalog = Catalog::scan(root).map_err(CacheError::io("read", root))?;
        let ledger = File::open(root)
            .and_then(|directory| Ledger::new(directory, budget, catalog.total_bytes()))
            .map_err(CacheError::io("ask for the size of", root))?;
        let shared = Shared {
            root: root.to_path_buf(),
            _lock: lock,
            ledger,
            catalog: Mutex::new(catalog),
            changes: Mutex::default(),
            hand: Mutex::default(),
            serial: AtomicU64::new(0),
        };
        Ok(Cache {
            shared: Arc::new(shared),
        })
    }

    /// Opens one layer's copy, empty when there is none. A copy with another stream size is
    /// worthless and replaced, unless somebody reads it.
    ///
    /// # Errors
    /// `TooLarge`, `SizeDiffers`, `Io`.
    pub fn layer(&self, key: &LayerKey, stream_size: u64) -> Result<Arc<LayerFile>, CacheError> {
        check_size(key, stream_size)?;
        let _changes = self.shared.changes();
        self.shared.open_layer(key, stream_size)
    }

    /// Starts writing a whole layer in stream order, before its digest is known to be right.
    ///
    /// # Errors
    /// `Io` when the temporary file cannot be made.
    pub fn writer(&self, key: &LayerKey) -> Result<LayerWriter, CacheError> {
        LayerWriter::new(self.clone(), key.clone(), self.shared.incoming_directory())
    }

    /// Removes a layer's copy.
    ///
    /// # Errors
    /// `InUse` while somebody has it open, `Unknown`, `Io`.
    pub fn remove(&self, key: &LayerKey) -> Result<(), CacheError> {
        let _changes = self.shared.changes();
        let _hand = self.shared.hand();
        self.shared.remove_entry(&key.directory(), || key.clone())
    }

    /// Makes what an untrusted index verified readable by everyone, after the layer's own
    /// digest has confirmed it. Open handles go on working. False when there is nothing to
    /// promote or a trusted copy exists already.
    ///
    /// # Errors
    /// `Io` when the rename fails.
    pub fn promote(&self, key: &LayerKey) -> Result<bool, CacheError> {
        let _changes = self.shared.changes();
        let _hand = self.shared.hand();
        let trusted = LayerKey::trusted(key.layer);
        let (from, to) = (key.directory(), trusted.directory());
        let mut catalog = self.shared.catalog();
        if catalog.entries.contains_key(&to) || !catalog.entries.contains_key(&from) {
            return Ok(false);
        }
        let target = self.shared.root.join(&to);
        move_directory(&self.shared.root.join(&from), &target)?;
        if let Some(entry) = catalog.entries.remove(&from) {
            if let Some(stream) = &entry.stream {
                stream.moved_to(target);
            }
            if let Some(file) = entry.handle.upgrade() {
                file.set_key(trusted);
            }
            catalog.entries.insert(to, entry);
        }
        Ok(true)
    }

    /// Removes every layer's copy that `keep` does not name and nobody has open; gives how many
    /// stay because somebody has them open.
    ///
    /// # Errors
    /// `Io` when the kernel refuses.
    pub fn retain(&self, keep: &[LayerKey]) -> Result<usize, CacheError> {
        let kept: Vec<PathBuf> = keep.iter().map(LayerKey::directory).collect();
        let _changes = self.shared.changes();
        let _hand = self.shared.hand();
        let unwanted: Vec<PathBuf> = self
            .shared
            .catalog()
            .entries
            .keys()
            .filter(|directory| !kept.contains(directory))
            .cloned()
            .collect();
        let mut in_use = 0;
        for directory in unwanted {
            let layer = scope::describe(&directory).map(|(layer, _)| LayerKey::trusted(layer));
            let Some(key) = layer else { continue };
            match self.shared.remove_entry(&directory, || key.clone()) {
                // The last handle may be on its way out, or have been taken meanwhile.
                Err(error) if error.is_in_use() => in_use += 1,
                Err(error) if error.is_unknown() => {}
                other => other?,
            }
        }
        Ok(in_use)
    }

    /// Bytes of a layer that are here.
    pub fn present_bytes(&self, key: &LayerKey) -> u64 {
        let catalog = self.shared.catalog();
        catalog
            .entries
            .get(&key.directory())
            .map_or(0, Entry::current_bytes)
    }

    /// Bytes that a layer's copy takes on the disk, and its files; zeros where there is none.
    pub fn disk_usage(&self, key: &LayerKey) -> (u64, u64) {
        let directory = self.shared.root.join(key.directory());
        let (mut bytes, mut files) = (0, 0);
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if let Ok(found) = entry.metadata() {
                bytes += found.blocks() * BLOCK;
                files += 1;
            }
        }
        (bytes, files)
    }

    /// What the cache holds and may hold.
    pub fn usage(&self) -> Usage {
        self.shared.ledger.usage()
    }

    /// Every layer, sorted by digest.
    pub fn layers(&self) -> Vec<LayerUsage> {
        let catalog = self.shared.catalog();
        let describe = |(directory, entry): (&PathBuf, &Entry)| {
            let (layer, trusted) = scope::describe(directory)?;
            Some(LayerUsage {
                layer,
                trusted,
                stream_bytes: entry.stream_size,
                present_bytes: entry.current_bytes(),
                in_use: entry.is_in_use(),
            })
        };
        let mut layers: Vec<_> = catalog.entries.iter().filter_map(describe).collect();
        layers.sort_by_key(|layer| (layer.layer.hex(), !layer.trusted));
        layers
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Shared {
    pub(super) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for a directory that is wiped at the next start.
    fn incoming_directory(&self) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.root.join(INCOMING).join(serial.to_string())
    }

    /// Opens or makes a layer's copy. The caller holds `changes`.
    pub(super) fn open_layer(
        self: &Arc<Self>,
        key: &LayerKey,
        stream_size: u64,
    ) -> Result<Arc<LayerFile>, CacheError> {
        let directory = key.directory();
        let path = self.root.join(&directory);
        let known = self
            .catalog()
            .entries
            .get(&directory)
            .map(|entry| entry.stream_size);
        if known.is_some_and(|open| open != stream_size) {
            let _hand = self.hand();
            self.remove_entry(&directory, || key.clone())
                .map_err(|error| match known {
                    Some(open) if error.is_in_use() => CacheError::SizeDiffers {
                        key: key.clone(),
                        open,
                        asked: stream_size,
                    },
                    _ => error,
                })?;
        }
        let mut catalog = self.catalog();
        if let Some(file) = catalog
            .entries
            .get(&directory)
            .and_then(|e| e.handle.upgrade())
        {
            return Ok(file);
        }
        let stream = match catalog.acquire(&self.root, &directory) {
            Ok(Some(stream)) => stream,
            Ok(None) => {
                let stream = LocalStream::create(&path, stream_size)
                    .map_err(CacheError::io("create", &path))?;
                self.insert(&mut catalog, &directory, Arc::new(stream))
            }
            Err(error) => return Err(CacheError::io("open", &path)(error)),
        };
        drop(catalog);
        self.enter(key, &directory, stream)
    }

    /// Puts a new copy into the catalog, with one user.
    pub(super) fn insert(
        &self,
        catalog: &mut Catalog,
        directory: &Path,
        stream: Arc<LocalStream>,
    ) -> Arc<LocalStream> {
        let entry = Entry {
            users: 1,
            ..Entry::loaded(stream.clone())
        };
        if let Some(old) = catalog.entries.insert(directory.to_path_buf(), entry) {
            self.ledger.release(old.current_bytes());
        }
        stream
    }

    /// Makes the handle of an acquired stream.
    pub(super) fn enter(
        self: &Arc<Self>,
        key: &LayerKey,
        directory: &Path,
        stream: Arc<LocalStream>,
    ) -> Result<Arc<LayerFile>, CacheError> {
        if let Err(error) = stream.enter() {
            self.catalog().release(directory, false);
            return Err(CacheError::io("open", &self.root.join(directory))(error));
        }
        let file = Arc::new(LayerFile::new(self.clone(), stream, key.clone()));
        if let Some(entry) = self.catalog().entries.get_mut(directory) {
            entry.handle = Arc::downgrade(&file);
        }
        Ok(file)
    }

    /// Forgets a layer nobody has open and deletes its files. The caller holds `hand`, so no
    /// eviction is under way.
    pub(super) fn remove_entry(
        &self,
        directory: &Path,
        key: impl Fn() -> LayerKey,
    ) -> Result<(), CacheError> {
        let path = self.root.join(directory);
        let mut catalog = self.catalog();
        let entry = catalog
            .entries
            .get(directory)
            .ok_or_else(|| CacheError::Unknown { key: key() })?;
        if entry.users > 0 {
            return Err(CacheError::InUse { key: key() });
        }
        let bytes = entry.current_bytes();
        // Out of sight in one step; a crash while deleting is finished at the next start.
        let doomed = self.incoming_directory();
        move_directory(&path, &doomed)?;
        catalog.entries.remove(directory);
        drop(catalog);
        fs::remove_dir_all(&doomed).map_err(CacheError::io("delete", &doomed))?;
        self.ledger.release(bytes);
        Ok(())
    }

    /// A handle went away.
    pub(super) fn closed(&self, stream: &LocalStream, key: &Mutex<LayerKey>) {
        if let Err(error) = stream.leave() {
            tracing::warn!(%error, "a layer's copy could not be flushed; it will be verified again");
        }
        let mut catalog = self.catalog();
        let directory = key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .directory();
        catalog.release(&directory, true);
    }
}

pub(super) fn check_size(key: &LayerKey, size: u64) -> Result<(), CacheError> {
    if size > MAX_STREAM_SIZE {
        return Err(CacheError::TooLarge {
            key: key.clone(),
            size,
            limit: MAX_STREAM_SIZE,
        });
    }
    Ok(())
}

/// Renames a directory so that the rename survives a crash.
pub(super) fn move_directory(from: &Path, to: &Path) -> Result<(), CacheError> {
    let move_it = || {
        let parent = to.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent)?;
        fs::rename(from, to)?;
        brisk_durable::sync_directory(parent)
    };
    move_it().map_err(CacheError::io("rename", from))
}

fn take_lock(path: &Path, root: &Path) -> Result<File, CacheError> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let lock = lock.map_err(CacheError::io("open", path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(CacheError::Locked {
            path: root.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(CacheError::io("lock", path)(error)),
    }
}

/// Eviction needs holes; better to hear of it now than with a full disk.
fn probe_holes(directory: &Path) -> std::io::Result<()> {
    let path = directory.join("probe");
    let file = File::create(&path)?;
    fs::remove_file(&path)?;
    file.set_len(index_format::LEAF_SIZE)?;
    local_stream::punch(&file, 0..1)
}
