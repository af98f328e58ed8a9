//! Digests of content: of every leaf of the stream, and of whole files.

use crate::digest::Digest;
use crate::error::FormatError;
use crate::index::Index;
use crate::inode::InodeNumber;
use crate::record::{ContentDigestRecord, DigestRecord};
use crate::section::SectionId;

impl Index {
    /// The digest of leaf `leaf`, which covers the stream from `leaf * LEAF_SIZE` on.
    ///
    /// # Errors
    /// A leaf that the stream does not have.
    pub fn leaf_digest(&self, leaf: u64) -> Result<Digest, FormatError> {
        let leaves = self.records::<DigestRecord>(SectionId::Leaves)?;
        usize::try_from(leaf)
            .ok()
            .and_then(|leaf| leaves.get(leaf))
            .map(|record| Digest::from_bytes(record.digest))
            .ok_or(FormatError::OutOfRange {
                what: "leaf",
                value: leaf,
                limit: leaves.len() as u64,
            })
    }

    /// The digest of a regular file's content, where the builder recorded it and the cold
    /// section is here.
    pub fn content_digest(&self, inode: InodeNumber) -> Option<Digest> {
        let records = self
            .records::<ContentDigestRecord>(SectionId::ContentDigests)
            .ok()?;
        let position = records
            .binary_search_by_key(&inode.0, |record| record.inode.get())
            .ok()?;
        Some(Digest::from_bytes(records[position].digest))
    }
}
