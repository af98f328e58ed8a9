//! The handle of one layer's copy.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use index_format::LEAF_SIZE;

use super::leaf_table::Claim;
use super::local_stream::LocalStream;
use super::root::Shared;
use super::{CacheError, LayerKey, Pinned};

/// For whom a leaf is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A reader waits for it: others may be evicted.
    Demand,
    /// Nobody waits: kept only where there is room.
    Background,
}

/// What became of a leaf that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is in the cache.
    Kept,
    /// It is not; the caller still has the bytes.
    NotKept(NotKept),
}

/// Why a leaf was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// The budget is used up and nothing may or can be evicted.
    Budget,
    /// The filesystem refused the write.
    Disk,
    /// The leaf is just being written or evicted by somebody else.
    Busy,
}

/// One layer's copy, open. While a handle lives the layer counts as in use. Dropping the last
/// one flushes the copy to the disk, which can take a while: not on a thread that serves reads.
#[derive(Debug)]
pub struct LayerFile {
    shared: Arc<Shared>,
    stream: Arc<LocalStream>,
    key: Mutex<LayerKey>,
}

impl LayerFile {
    pub(super) fn new(shared: Arc<Shared>, stream: Arc<LocalStream>, key: LayerKey) -> LayerFile {
        LayerFile {
            shared,
            stream,
            key: Mutex::new(key),
        }
    }

    /// The layer's place in the cache; promotion changes it.
    pub fn key(&self) -> LayerKey {
        self.key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn stream(&self) -> &LocalStream {
        &self.stream
    }

    pub(super) fn set_key(&self, key: LayerKey) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// Size of the layer's stream in bytes.
    pub fn stream_size(&self) -> u64 {
        self.stream.stream_size()
    }

    /// Number of leaves of the stream.
    pub fn leaf_count(&self) -> u64 {
        self.stream.table().leaf_count()
    }

    /// The leaves that a range of the stream touches.
    pub fn leaves(&self, range: &Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return range.start / LEAF_SIZE..range.start / LEAF_SIZE;
        }
        range.start / LEAF_SIZE..range.end.div_ceil(LEAF_SIZE)
    }

    /// Whether every byte of the range is there and verified. It may be gone a moment later:
    /// to read, `pin`.
    pub fn has(&self, range: Range<u64>) -> bool {
        self.stream.table().is_ready(self.leaves(&range))
    }

    /// Holds a range for reading; `None` unless every leaf of it is there and verified.
    pub fn pin(self: &Arc<Self>, range: Range<u64>) -> Option<Pinned> {
        if range.end > self.stream_size() {
            return None;
        }
        let leaves = self.leaves(&range);
        let mut table = self.stream.table();
        if !table.is_ready(leaves.clone()) {
            return None;
        }
        table.pin(leaves.clone());
        drop(table);
        Some(Pinned::new(self.clone(), leaves, range))
    }

    /// Leaves of the range that are there but have to be verified again.
    pub fn suspects(&self, range: Range<u64>) -> Vec<u64> {
        self.stream.table().suspects(self.leaves(&range))
    }

    /// Verifies a suspect leaf: one that passes is as good as new, one that fails is dropped.
    /// True when the leaf is there and verified afterwards.
    pub fn confirm(&self, leaf: u64, verify: impl FnOnce(&[u8]) -> bool) -> bool {
        let _one_at_a_time = self.stream.confirming();
        let mut table = self.stream.table();
        if !table.is_suspect(leaf) {
            return table.is_ready(leaf..leaf + 1);
        }
        let mut bytes = vec![0; table.leaf_length(leaf) as usize];
        table.pin(leaf..leaf + 1);
        drop(table);
        let right = self.stream.read_at(&mut bytes, leaf * LEAF_SIZE).is_ok() && verify(&bytes);
        let mut table = self.stream.table();
        table.unpin(&(leaf..leaf + 1));
        if right {
            table.confirm(leaf);
        }
        let still_suspect = table.is_suspect(leaf);
        drop(table);
        if still_suspect {
            self.forget(leaf);
        }
        self.stream.table().is_ready(leaf..leaf + 1)
    }

    /// Drops a leaf, for instance one that the disk cannot read back. Pinned leaves stay.
    pub fn forget(&self, leaf: u64) {
        let freed = self.stream.evict(leaf..leaf + 1);
        self.shared.release(freed);
    }

    /// Stores a leaf whose bytes the caller has verified. That it could not be kept is no
    /// error: the caller answers from the bytes it has.
    ///
    /// # Errors
    /// `LeafLength` when the bytes are not as many as the leaf has.
    pub fn store(&self, leaf: u64, bytes: &[u8], priority: Priority) -> Result<Stored, CacheError> {
        let mut table = self.stream.table();
        let expected = if leaf < table.leaf_count() {
            table.leaf_length(leaf)
        } else {
            0
        };
        let found = bytes.len() as u64;
        if found != expected || found == 0 {
            return Err(CacheError::LeafLength {
                key: self.key(),
                leaf,
                expected,
                found,
            });
        }
        let claim = table.claim(leaf);
        drop(table);
        let reserved = match claim {
            Claim::AlreadyThere => return Ok(Stored::Kept),
            Claim::Busy => return Ok(Stored::NotKept(NotKept::Busy)),
            Claim::New => found,
            Claim::Suspect => 0,
        };
        let outcome = self.write_claimed(leaf, bytes, reserved, priority);
        if outcome != Stored::Kept {
            self.shared.count_not_kept();
        }
        Ok(outcome)
    }

    /// Reserves, writes and ends the claim.
    fn write_claimed(&self, leaf: u64, bytes: &[u8], reserved: u64, priority: Priority) -> Stored {
        if !self.shared.reserve(reserved, priority) {
            self.stream.finish_write(leaf, false);
            return Stored::NotKept(NotKept::Budget);
        }
        let mut written = self.stream.write_leaf(leaf, bytes);
        if written.is_err() && priority == Priority::Demand && self.shared.make_room(reserved) > 0 {
            written = self.stream.write_leaf(leaf, bytes);
        }
        match written {
            Ok(()) => {
                self.stream.finish_write(leaf, true);
                Stored::Kept
            }
            Err(error) => {
                tracing::debug!(key = %self.key(), leaf, %error, "a leaf could not be written");
                self.undo_write(leaf, reserved);
                Stored::NotKept(NotKept::Disk)
            }
        }
    }

    /// A write that failed may have left some bytes. A suspect leaf may be half overwritten,
    /// so it is still suspect and fails its next verification.
    fn undo_write(&self, leaf: u64, reserved: u64) {
        let freed = self.stream.punch(leaf).is_ok();
        self.stream.finish_write(leaf, false);
        if freed {
            self.shared.release(reserved);
        }
    }

    /// Bytes of the stream that are there, suspect ones included.
    pub fn present_bytes(&self) -> u64 {
        self.stream.table().present_bytes()
    }

    /// Whether the whole stream is there and verified.
    pub fn is_complete(&self) -> bool {
        let table = self.stream.table();
        table.ready_count() == table.leaf_count()
    }
}

impl Drop for LayerFile {
    fn drop(&mut self) {
        self.shared.closed(&self.stream, &self.key);
    }
}
