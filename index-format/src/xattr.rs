//! Extended attributes: every distinct set is stored once, sorted by name.

use crate::error::FormatError;
use crate::index::{Index, range};
use crate::inode::InodeNumber;
use crate::record::{XattrRecord, XattrSetRecord};
use crate::section::SectionId;

/// Whether an xattr belongs to overlayfs itself. An image must never bring one along: over a
/// mount of the image, overlayfs would take its word for redirects, opaque directories and more.
pub fn is_overlay_private(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// The xattrs of one inode, sorted by name.
#[derive(Clone, Debug)]
pub struct Xattrs<'a> {
    index: &'a Index,
    records: &'a [XattrRecord],
}

impl<'a> Xattrs<'a> {
    fn name(&self, record: &XattrRecord) -> Result<&'a [u8], FormatError> {
        self.index
            .pool_bytes(record.name_offset.get(), record.name_length.get())
    }

    fn value(&self, record: &XattrRecord) -> Result<&'a [u8], FormatError> {
        self.index
            .pool_bytes(record.value_offset.get(), record.value_length.get())
    }
}

impl<'a> Iterator for Xattrs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (record, rest) = self.records.split_first()?;
        self.records = rest;
        Some(
            self.name(record)
                .and_then(|name| Ok((name, self.value(record)?))),
        )
    }
}

impl Index {
    /// Whether any inode has an xattr.
    pub fn has_xattrs(&self) -> bool {
        self.section_length(SectionId::XattrSets) != 0
    }

    /// The xattrs of an inode, as (name, value), sorted by name.
    ///
    /// # Errors
    /// A number that the index does not have, or a damaged record.
    pub fn xattrs(&self, inode: InodeNumber) -> Result<Xattrs<'_>, FormatError> {
        let set = self.inode_record(inode)?.xattr_set.get();
        let records = match set.checked_sub(1) {
            None => &[],
            Some(position) => self.xattr_set(position)?,
        };
        Ok(Xattrs {
            index: self,
            records,
        })
    }

    /// One xattr of an inode.
    ///
    /// # Errors
    /// As [`Index::xattrs`].
    pub fn xattr(&self, inode: InodeNumber, name: &[u8]) -> Result<Option<&[u8]>, FormatError> {
        for pair in self.xattrs(inode)? {
            let (candidate, value) = pair?;
            if candidate == name {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The records of the set at `position`, counted from 0.
    pub(crate) fn xattr_set(&self, position: u32) -> Result<&[XattrRecord], FormatError> {
        let sets = self.records::<XattrSetRecord>(SectionId::XattrSets)?;
        let set = sets.get(position as usize).ok_or(FormatError::OutOfRange {
            what: "xattr set",
            value: position.into(),
            limit: sets.len() as u64,
        })?;
        range(
            self.records(SectionId::Xattrs)?,
            set.first.get(),
            set.count.get(),
            "xattr",
        )
    }
}
