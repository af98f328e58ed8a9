//! What is known in memory about the leaves of one stream: present, suspect, being changed,
//! pinned, recently read. No files here.

use std::collections::HashSet;
use std::ops::Range;

use index_format::LEAF_SIZE;

use super::bitmap::LeafSet;
use super::presence::Presence;

/// Leaves evicted together: 16 leaves are 1 MiB, about what one chunk yields; recency is kept
/// for groups of this size.
pub(super) const GROUP_LEAVES: u64 = 16;

#[derive(Debug)]
pub(super) struct LeafTable {
    stream_size: u64,
    present: LeafSet,
    suspect: LeafSet,
    /// Leaves whose bytes in the file are being written or punched.
    busy: HashSet<u64>,
    /// Ranges of leaves that readers hold. As many as there are reads running, so a list is
    /// faster than a map.
    pins: Vec<Range<u64>>,
    /// Groups read since the eviction hand passed.
    touched: LeafSet,
    present_bytes: u64,
}

/// What a writer may do with a leaf.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is present and verified.
    AlreadyThere,
    /// Another thread is writing or punching it.
    Busy,
    /// The caller owns it until `finish_write`; its bytes are not accounted yet.
    New,
    /// As `New`, but a suspect copy is there and accounted.
    Suspect,
}

impl LeafTable {
    pub(super) fn new(presence: Presence) -> LeafTable {
        let Presence {
            stream_size,
            present,
            suspect,
        } = presence;
        let groups = present.length().div_ceil(GROUP_LEAVES);
        let mut table = LeafTable {
            stream_size,
            present,
            suspect,
            busy: HashSet::new(),
            pins: Vec::new(),
            touched: LeafSet::new(groups),
            present_bytes: 0,
        };
        table.present_bytes = table.count_bytes();
        table
    }

    /// Whole leaves times their size, less what the last one is shorter by.
    fn count_bytes(&self) -> u64 {
        let full = self.present.count() * LEAF_SIZE;
        let last = self
            .leaf_count()
            .checked_sub(1)
            .filter(|last| self.present.contains(*last));
        last.map_or(full, |last| full - (LEAF_SIZE - self.leaf_length(last)))
    }

    pub(super) fn snapshot(&self) -> Presence {
        Presence {
            stream_size: self.stream_size,
            present: self.present.clone(),
            suspect: self.suspect.clone(),
        }
    }

    pub(super) fn present(&self) -> &LeafSet {
        &self.present
    }

    pub(super) fn present_bytes(&self) -> u64 {
        self.present_bytes
    }

    pub(super) fn leaf_count(&self) -> u64 {
        self.present.length()
    }

    pub(super) fn group_count(&self) -> u64 {
        self.touched.length()
    }

    /// Length of a leaf: the last one may be short.
    pub(super) fn leaf_length(&self, leaf: u64) -> u64 {
        (self.stream_size - leaf * LEAF_SIZE).min(LEAF_SIZE)
    }

    /// All present and verified.
    pub(super) fn is_ready(&self, leaves: Range<u64>) -> bool {
        self.present.contains_all(leaves.clone()) && !self.suspect.contains_any(leaves)
    }

    pub(super) fn is_suspect(&self, leaf: u64) -> bool {
        self.suspect.contains(leaf)
    }

    pub(super) fn ready_count(&self) -> u64 {
        self.present.count() - self.suspect.count()
    }

    /// Suspect leaves of a range.
    pub(super) fn suspects(&self, leaves: Range<u64>) -> Vec<u64> {
        if self.suspect.count() == 0 {
            return Vec::new();
        }
        leaves.filter(|leaf| self.suspect.contains(*leaf)).collect()
    }

    /// Keeps leaves from being evicted; undone by `unpin` with the same range.
    pub(super) fn pin(&mut self, leaves: Range<u64>) {
        for group in leaves.start / GROUP_LEAVES..leaves.end.div_ceil(GROUP_LEAVES) {
            self.touched.insert(group);
        }
        self.pins.push(leaves);
    }

    pub(super) fn unpin(&mut self, leaves: &Range<u64>) {
        let at = self.pins.iter().position(|pin| pin == leaves);
        self.pins
            .swap_remove(at.expect("every unpin follows its pin"));
    }

    fn is_pinned(&self, leaf: u64) -> bool {
        self.pins.iter().any(|pin| pin.contains(&leaf))
    }

    /// Asks for the right to write a leaf.
    pub(super) fn claim(&mut self, leaf: u64) -> Claim {
        if self.busy.contains(&leaf) {
            return Claim::Busy;
        }
        let present = self.present.contains(leaf);
        if present && !self.suspect.contains(leaf) {
            return Claim::AlreadyThere;
        }
        self.busy.insert(leaf);
        if present { Claim::Suspect } else { Claim::New }
    }

    /// Ends a claim. A kept leaf is present and verified from here on.
    pub(super) fn finish_write(&mut self, leaf: u64, kept: bool) {
        assert!(self.busy.remove(&leaf), "leaf {leaf} was not claimed");
        if !kept {
            return;
        }
        self.suspect.remove(leaf);
        self.touched.insert(leaf / GROUP_LEAVES);
        if self.present.insert(leaf) {
            self.present_bytes += self.leaf_length(leaf);
        }
    }

    /// A suspect leaf turned out right. Nothing happens if it changed meanwhile.
    pub(super) fn confirm(&mut self, leaf: u64) {
        if !self.busy.contains(&leaf) {
            self.suspect.remove(leaf);
        }
    }

    /// Takes a leaf out for punching, unless it is absent, pinned or being changed. The caller
    /// ends with `finish_punch`.
    pub(super) fn take(&mut self, leaf: u64) -> bool {
        let free = self.present.contains(leaf) && !self.busy.contains(&leaf);
        if !free || self.is_pinned(leaf) {
            return false;
        }
        self.present.remove(leaf);
        self.suspect.remove(leaf);
        self.present_bytes -= self.leaf_length(leaf);
        self.busy.insert(leaf);
        true
    }

    pub(super) fn finish_punch(&mut self, leaf: u64) {
        assert!(self.busy.remove(&leaf), "leaf {leaf} was not taken");
    }

    /// Leaves of a group.
    pub(super) fn group_leaves(&self, group: u64) -> Range<u64> {
        let start = group * GROUP_LEAVES;
        start..(start + GROUP_LEAVES).min(self.leaf_count())
    }

    /// Whether the group was read since the last call; forgets it.
    pub(super) fn was_touched(&mut self, group: u64) -> bool {
        self.touched.remove(group)
    }
}

#[cfg(test)]
mod tests {
    use super::{Claim, LeafTable};
    use crate::presence::Presence;
    use index_format::LEAF_SIZE;

    fn table() -> LeafTable {
        LeafTable::new(Presence::empty(3 * LEAF_SIZE + 5))
    }

    fn put(table: &mut LeafTable, leaf: u64) {
        assert_eq!(table.claim(leaf), Claim::New);
        table.finish_write(leaf, true);
    }

    #[test]
    fn counts_the_short_last_leaf_by_its_length() {
        let mut table = table();
        put(&mut table, 3);
        put(&mut table, 0);
        assert_eq!(table.present_bytes(), LEAF_SIZE + 5);
        assert_eq!(
            LeafTable::new(table.snapshot()).present_bytes(),
            LEAF_SIZE + 5
        );
    }

    #[test]
    fn pinned_and_busy_leaves_are_not_taken() {
        let mut table = table();
        put(&mut table, 0);
        put(&mut table, 1);
        table.pin(0..1);
        table.pin(0..1);
        assert!(!table.take(0));
        assert!(table.take(1));
        assert_eq!(table.claim(1), Claim::Busy);
        table.finish_punch(1);
        table.unpin(&(0..1));
        assert!(!table.take(0));
        table.unpin(&(0..1));
        assert!(table.take(0));
        assert_eq!(table.present_bytes(), 0);
    }

    #[test]
    fn a_failed_write_leaves_the_leaf_absent() {
        let mut table = table();
        assert_eq!(table.claim(2), Claim::New);
        assert_eq!(table.claim(2), Claim::Busy);
        table.finish_write(2, false);
        assert!(!table.is_ready(2..3));
        assert_eq!(table.claim(2), Claim::New);
    }
}
