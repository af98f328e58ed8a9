//! Making room: which leaves go.
//!
//! Layers that nobody has open go first, the longest unused one first, from their start. Then
//! those in use, by a clock: a hand passes over groups of leaves; a group read since the hand
//! last came by is passed over once.

use std::path::{Path, PathBuf};

use super::Priority;
use super::root::Shared;

/// Bytes evicted at a time, at most: one pass per chunk or so, and not per leaf.
const BATCH_BYTES: u64 = 8 << 20;

/// ... but no more than this part of the budget, for small ones.
const BATCH_SHARE: u64 = 16;

/// Reserving is tried again this often: other threads take what eviction freed.
const RESERVE_ATTEMPTS: u32 = 4;

/// Where the clock stands.
#[derive(Debug, Default)]
pub(super) struct Hand {
    directory: PathBuf,
    group: u64,
}

impl Shared {
    /// Accounts for bytes about to be written; demand makes room for them where needed.
    pub(super) fn reserve(&self, bytes: u64, priority: Priority) -> bool {
        for _ in 0..RESERVE_ATTEMPTS {
            let Err(over) = self.ledger.reserve(bytes) else {
                return true;
            };
            if priority == Priority::Background || self.make_room(over) == 0 {
                return false;
            }
        }
        false
    }

    pub(super) fn release(&self, bytes: u64) {
        self.ledger.release(bytes);
    }

    pub(super) fn count_not_kept(&self) {
        self.ledger.count_not_kept();
    }

    /// Evicts at least `bytes` if it can; says how many went.
    pub(super) fn make_room(&self, bytes: u64) -> u64 {
        let mut hand = self.hand();
        let batch = BATCH_BYTES.min(self.ledger.usage().limit_bytes / BATCH_SHARE);
        let wanted = bytes.max(batch);
        let mut freed = self.evict_idle(wanted);
        // What is in use goes only for what is needed now.
        if freed < bytes {
            freed += self.evict_in_use(&mut hand, bytes - freed);
        }
        self.ledger.count_evicted(freed);
        freed
    }

    fn evict_idle(&self, wanted: u64) -> u64 {
        let mut freed = 0;
        let idle = self.catalog().idle();
        for directory in idle {
            if freed >= wanted {
                break;
            }
            freed += self.evict_layer(&directory, wanted - freed);
            self.remove_if_empty(&directory);
        }
        freed
    }

    /// Evicts from one layer, as one of its users, so that the mark of a clean stop is away
    /// while its leaves go.
    fn evict_layer(&self, directory: &Path, wanted: u64) -> u64 {
        let Ok(Some(stream)) = self.catalog().acquire(&self.root, directory) else {
            return 0;
        };
        let mut freed = 0;
        match stream.enter() {
            Ok(()) => {
                let groups = stream.table().group_count();
                for group in 0..groups {
                    if freed >= wanted {
                        break;
                    }
                    let leaves = stream.table().group_leaves(group);
                    freed += stream.evict(leaves);
                }
                self.ledger.release(freed);
                if let Err(error) = stream.leave() {
                    tracing::debug!(?directory, %error, "an evicted layer could not be flushed");
                }
            }
            Err(error) => tracing::debug!(?directory, %error, "cannot evict from a layer"),
        }
        self.catalog().release(directory, false);
        freed
    }

    fn remove_if_empty(&self, directory: &Path) {
        let mut catalog = self.catalog();
        let empty = |entry: &super::catalog::Entry| entry.users == 0 && entry.current_bytes() == 0;
        if !catalog.entries.get(directory).is_some_and(empty) {
            return;
        }
        catalog.entries.remove(directory);
        if let Err(error) = std::fs::remove_dir_all(self.root.join(directory)) {
            tracing::debug!(?directory, %error, "cannot remove an empty layer");
        }
    }

    /// The clock: at most two laps, the first of which forgets what was read.
    fn evict_in_use(&self, hand: &mut Hand, wanted: u64) -> u64 {
        let layers = self.catalog().in_use();
        let start = layers.partition_point(|directory| *directory < hand.directory);
        let mut freed = 0;
        // The layer under the hand is visited once more at the end of the second lap.
        for step in 0..=2 * layers.len() {
            let Some(directory) = layers.get((start + step) % layers.len().max(1)) else {
                break;
            };
            if *directory != hand.directory {
                *hand = Hand {
                    directory: directory.clone(),
                    group: 0,
                };
            }
            freed += self.evict_with_hand(hand, wanted - freed);
            if freed >= wanted {
                break;
            }
            hand.group = 0;
        }
        freed
    }

    /// Moves the hand through the rest of one layer in use.
    fn evict_with_hand(&self, hand: &mut Hand, wanted: u64) -> u64 {
        let handle = self
            .catalog()
            .entries
            .get(&hand.directory)
            .and_then(|e| e.stream.clone());
        let Some(stream) = handle else { return 0 };
        let groups = stream.table().group_count();
        let mut freed = 0;
        while hand.group < groups && freed < wanted {
            let mut table = stream.table();
            let spared = table.was_touched(hand.group);
            let leaves = table.group_leaves(hand.group);
            drop(table);
            if !spared {
                let bytes = stream.evict(leaves);
                self.ledger.release(bytes);
                freed += bytes;
            }
            hand.group += 1;
        }
        freed
    }
}
