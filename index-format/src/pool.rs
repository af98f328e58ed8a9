//! The pool of byte strings under construction: every string once.

use crate::limit::MAX_POOL_SIZE;
use crate::write::WriteError;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Names, link targets, xattr names and values, in the order of their first use.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    bytes: Vec<u8>,
    /// Offset and length of every string. Keyed at random: strings are hostile.
    seen: HashTable<(u32, u32)>,
    hasher: RandomState,
}

impl Pool {
    /// An empty pool with room for so many strings.
    pub(crate) fn with_capacity(strings: usize) -> Pool {
        Pool {
            seen: HashTable::with_capacity(strings),
            ..Pool::default()
        }
    }

    /// The offset of `string`, which is added where it is new.
    pub(crate) fn intern(&mut self, string: &[u8]) -> Result<u32, WriteError> {
        let hash = self.hasher.hash_one(string);
        let is_it = |place: &(u32, u32)| string_at(&self.bytes, *place) == string;
        if let Some((offset, _)) = self.seen.find(hash, is_it) {
            return Ok(*offset);
        }
        let value = self.bytes.len() as u64 + string.len() as u64;
        if value > MAX_POOL_SIZE {
            return Err(WriteError::Limit {
                what: "bytes of names",
                value,
                limit: MAX_POOL_SIZE,
            });
        }
        // MAX_POOL_SIZE is less than 2^32.
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(string);
        let place = (offset, string.len() as u32);
        let (bytes, hasher) = (&self.bytes, &self.hasher);
        self.seen.insert_unique(hash, place, |place| {
            hasher.hash_one(string_at(bytes, *place))
        });
        Ok(offset)
    }

    /// The pool's section.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn string_at(bytes: &[u8], (offset, length): (u32, u32)) -> &[u8] {
    &bytes[offset as usize..][..length as usize]
}
