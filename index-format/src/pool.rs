//! The pool of byte strings under construction: every string once.

use crate::limit::MAX_POOL_SIZE;
use crate::write::WriteError;
use std::collections::HashMap;

/// Names, link targets, xattr names and values, in the order of their first use.
#[derive(Debug)]
pub(crate) struct Pool<'a> {
    bytes: Vec<u8>,
    seen: HashMap<&'a [u8], u32>,
}

impl<'a> Pool<'a> {
    /// An empty pool with room for so many strings.
    pub(crate) fn with_capacity(strings: usize) -> Pool<'a> {
        Pool {
            bytes: Vec::new(),
            seen: HashMap::with_capacity(strings),
        }
    }

    /// The offset of `string`, which is added where it is new.
    pub(crate) fn intern(&mut self, string: &'a [u8]) -> Result<u32, WriteError> {
        if let Some(&offset) = self.seen.get(string) {
            return Ok(offset);
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
        self.seen.insert(string, offset);
        Ok(offset)
    }

    /// The pool's section.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
