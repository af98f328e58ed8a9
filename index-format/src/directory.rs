//! Directories: entries sorted by name, found by binary search.

use crate::error::FormatError;
use crate::index::{Index, range};
use crate::inode::{FileKind, InodeNumber};
use crate::limit::MAX_NAME_LENGTH;
use crate::record::{EntryRecord, range_of};
use crate::section::SectionId;

/// Whether `name` can name a directory entry: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
pub fn is_legal_name(name: &[u8]) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name: 1 to 255 bytes of any value but `/` and NUL.
    pub name: &'a [u8],
    /// What it names.
    pub inode: InodeNumber,
    /// The kind of that inode, repeated here so that listing touches no inode.
    pub kind: FileKind,
}

/// The entries of one directory in the order of their names' bytes. Positions are stable for
/// the life of the index, so they serve as offsets of a directory stream.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    records: &'a [EntryRecord],
    /// Position of `records[0]` in the whole section, for errors.
    first: u32,
    pool: &'a [u8],
    /// The next position that the iterator yields.
    next: u32,
}

impl<'a> Entries<'a> {
    /// How many entries the directory has, those that an iterator has yielded included.
    pub fn len(&self) -> u32 {
        // A range of an entry section, whose length open() has bounded by MAX_ENTRIES.
        self.records.len() as u32
    }

    /// Whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The entry at `position`, counted from 0; `None` past the end.
    ///
    /// # Errors
    /// A damaged record.
    pub fn get(&self, position: u32) -> Result<Option<Entry<'a>>, FormatError> {
        let Some(record) = self.records.get(position as usize) else {
            return Ok(None);
        };
        let kind = FileKind::from_number(record.kind).ok_or(FormatError::Entry {
            entry: self.first.saturating_add(position),
            problem: "unknown kind",
        })?;
        let inode = InodeNumber(record.inode.get());
        Ok(Some(Entry {
            name: self.name(record)?,
            inode,
            kind,
        }))
    }

    /// Goes on at `position` when iterated.
    pub fn starting_at(mut self, position: u32) -> Entries<'a> {
        self.next = position;
        self
    }

    /// The position of `name`; where it is missing, the position it would have.
    ///
    /// # Errors
    /// A damaged record.
    pub fn search(&self, name: &[u8]) -> Result<Result<u32, u32>, FormatError> {
        let (mut low, mut high) = (0, self.records.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(&self.records[middle])?.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(Ok(middle as u32)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(Err(low as u32))
    }

    fn name(&self, record: &EntryRecord) -> Result<&'a [u8], FormatError> {
        let start = record.name_offset.get() as usize;
        // A 32-bit start plus at most 255 cannot overflow 64 bits.
        self.pool
            .get(start..start + usize::from(record.name_length))
            .ok_or(FormatError::OutOfRange {
                what: "name offset",
                value: start as u64,
                limit: self.pool.len() as u64,
            })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, FormatError>;

    fn next(&mut self) -> Option<Result<Entry<'a>, FormatError>> {
        let entry = self.get(self.next).transpose()?;
        self.next += 1;
        Some(entry)
    }
}

impl Index {
    /// The entries of a directory.
    ///
    /// # Errors
    /// [`FormatError::NotDirectory`], a number that the index does not have, or a damaged record.
    pub fn entries(&self, directory: InodeNumber) -> Result<Entries<'_>, FormatError> {
        let record = self.inode_record(directory)?;
        if record.kind != FileKind::Directory.number() {
            return Err(FormatError::NotDirectory(directory.0));
        }
        let (first, count) = range_of(record.place);
        Ok(Entries {
            records: range(self.records(SectionId::Entries)?, first, count, "entry")?,
            first,
            pool: self.section(SectionId::Names)?,
            next: 0,
        })
    }

    /// The entry at `position` of a directory, counted from 0; `None` past the end.
    ///
    /// # Errors
    /// As [`Index::entries`].
    pub fn entry_at(
        &self,
        directory: InodeNumber,
        position: u32,
    ) -> Result<Option<Entry<'_>>, FormatError> {
        self.entries(directory)?.get(position)
    }

    /// The inode that `name` names in a directory. In a layer's index this may be a marker.
    ///
    /// # Errors
    /// As [`Index::entries`].
    pub fn lookup(
        &self,
        directory: InodeNumber,
        name: &[u8],
    ) -> Result<Option<InodeNumber>, FormatError> {
        let entries = self.entries(directory)?;
        Ok(match entries.search(name)? {
            Ok(position) => Some(InodeNumber(entries.records[position as usize].inode.get())),
            Err(_) => None,
        })
    }
}
