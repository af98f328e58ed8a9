//! Decoded bytes in memory: parts of leaves that cannot be verified yet, and verified leaves
//! that found no room on disk.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;

/// Bytes of leaf parts that wait for their neighbours. A part is 32 KiB on average and every
/// chunk leaves two, so this is enough for some hundred chunks fetched here and there; what is
/// lost is fetched again with its neighbour.
const EDGE_BYTES: usize = 8 << 20;

/// Bytes of verified leaves that the disk does not take: some chunks, so that a reader of
/// 128 KiB at a time does not fetch each chunk sixteen times over.
const UNKEPT_BYTES: usize = 32 << 20;

/// A leaf of some layer of this process.
pub(super) type LeafKey = (u64, u64);

/// A part of a leaf: where it lies in the stream, and its bytes.
pub(super) type Part = (Range<u64>, Bytes);

/// Memory shared by all layers of a service, bounded in bytes.
#[derive(Debug)]
pub struct Scratch {
    edges: Mutex<Bounded<Vec<Part>>>,
    unkept: Mutex<Bounded<Bytes>>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::with_limits(EDGE_BYTES, UNKEPT_BYTES)
    }
}

impl Scratch {
    /// Memory for this many bytes of unverified edges and of leaves not on disk.
    pub(super) fn with_limits(edge_bytes: usize, unkept_bytes: usize) -> Scratch {
        Scratch {
            edges: Mutex::new(Bounded::new(edge_bytes)),
            unkept: Mutex::new(Bounded::new(unkept_bytes)),
        }
    }

    /// Adds an unverified part of a leaf. When the parts make up the whole leaf they are taken
    /// out and returned together, for verification.
    pub(super) fn offer(&self, leaf: LeafKey, whole: Range<u64>, part: Part) -> Option<Vec<u8>> {
        let mut edges = lock(&self.edges);
        let mut parts = edges.take(&leaf).unwrap_or_default();
        // The same chunk decoded again replaces what it gave before.
        parts.retain(|(range, _)| range.end <= part.0.start || part.0.end <= range.start);
        parts.push(part);
        parts.sort_by_key(|(range, _)| range.start);
        if let Some(bytes) = join(&parts, &whole) {
            return Some(bytes);
        }
        let size = parts.iter().map(|(_, bytes)| bytes.len()).sum();
        edges.put(leaf, parts, size);
        None
    }

    /// The unverified parts of a leaf that are here.
    pub(super) fn parts(&self, leaf: LeafKey) -> Vec<Part> {
        lock(&self.edges).get(&leaf).unwrap_or_default()
    }

    /// Forgets the parts of a leaf, because they are wrong or no longer needed.
    pub(super) fn forget_parts(&self, leaf: LeafKey) {
        lock(&self.edges).take(&leaf);
    }

    /// Keeps a verified leaf for a while.
    pub(super) fn keep(&self, leaf: LeafKey, bytes: &[u8]) {
        // A copy: a slice would hold the whole chunk in memory.
        lock(&self.unkept).put(leaf, Bytes::copy_from_slice(bytes), bytes.len());
    }

    /// A verified leaf that the disk did not take, if it is still here.
    pub(super) fn kept(&self, leaf: LeafKey) -> Option<Bytes> {
        lock(&self.unkept).get(&leaf)
    }

    /// Frees everything of a layer.
    pub(super) fn forget_layer(&self, layer: u64) {
        lock(&self.edges).retain(|leaf| leaf.0 != layer);
        lock(&self.unkept).retain(|leaf| leaf.0 != layer);
    }
}

/// The bytes of `whole` from sorted parts that do not overlap, if they leave no gap.
pub(super) fn join(parts: &[Part], whole: &Range<u64>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity((whole.end - whole.start) as usize);
    for (range, part) in parts {
        let at = whole.start + bytes.len() as u64;
        if range.end <= at {
            continue;
        }
        if range.start > at || at >= whole.end {
            break;
        }
        let end = range.end.min(whole.end);
        bytes.extend_from_slice(&part[(at - range.start) as usize..(end - range.start) as usize]);
    }
    (bytes.len() as u64 == whole.end - whole.start).then_some(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An LRU map bounded by the size of its values.
#[derive(Debug)]
struct Bounded<V> {
    entries: LruCache<LeafKey, (V, usize)>,
    size: usize,
    limit: usize,
}

impl<V: Clone> Bounded<V> {
    fn new(limit: usize) -> Bounded<V> {
        Bounded {
            entries: LruCache::unbounded(),
            size: 0,
            limit,
        }
    }

    fn put(&mut self, key: LeafKey, value: V, size: usize) {
        self.take(&key);
        self.size += size;
        self.entries.put(key, (value, size));
        while self.size > self.limit
            && let Some((_, (_, size))) = self.entries.pop_lru()
        {
            self.size -= size;
        }
    }

    fn get(&mut self, key: &LeafKey) -> Option<V> {
        self.entries.get(key).map(|(value, _)| value.clone())
    }

    fn take(&mut self, key: &LeafKey) -> Option<V> {
        let (value, size) = self.entries.pop(key)?;
        self.size -= size;
        Some(value)
    }

    fn retain(&mut self, keep: impl Fn(&LeafKey) -> bool) {
        let gone: Vec<LeafKey> = self
            .entries
            .iter()
            .map(|(key, _)| *key)
            .filter(|key| !keep(key))
            .collect();
        for key in gone {
            self.take(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Scratch};
    use bytes::Bytes;

    fn part(range: std::ops::Range<u64>) -> Part {
        let bytes: Vec<u8> = range.clone().map(|i| i as u8).collect();
        (range, Bytes::from(bytes))
    }

    #[test]
    fn parts_come_together_in_any_order() {
        let scratch = Scratch::default();
        assert_eq!(scratch.offer((1, 0), 0..10, part(6..10)), None);
        assert_eq!(scratch.offer((1, 0), 0..10, part(6..10)), None);
        assert_eq!(scratch.offer((2, 0), 0..10, part(0..6)), None);
        assert_eq!(scratch.offer((1, 0), 0..10, part(0..3)), None);
        assert_eq!(scratch.parts((1, 0)).len(), 2);
        let whole = scratch.offer((1, 0), 0..10, part(3..6)).unwrap();
        assert_eq!(whole, (0..10).collect::<Vec<u8>>());
        assert!(scratch.parts((1, 0)).is_empty());
        assert_eq!(scratch.parts((2, 0)).len(), 1);
        scratch.forget_layer(2);
        assert!(scratch.parts((2, 0)).is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let scratch = Scratch::with_limits(25, 25);
        for leaf in 0..10 {
            scratch.offer((0, leaf), 0..100, part(0..10));
            scratch.keep((0, leaf), &[leaf as u8; 10]);
        }
        let edges = (0..10)
            .filter(|leaf| !scratch.parts((0, *leaf)).is_empty())
            .count();
        let unkept = (0..10)
            .filter(|leaf| scratch.kept((0, *leaf)).is_some())
            .count();
        assert_eq!((edges, unkept), (2, 2));
        assert_eq!(scratch.kept((0, 9)).unwrap(), [9; 10][..]);
    }
}
