//! The sections of an index and their numbers in the section table.

use crate::limit::{MAX_CHUNKS, MAX_ENTRIES, MAX_EXTENTS, MAX_INODES, MAX_LAYERS, MAX_POOL_SIZE};
use crate::record::{
    ChunkRecord, ContentDigestRecord, DigestRecord, EntryRecord, ExtentRecord, InodeRecord,
    LayerRecord, XattrRecord, XattrSetRecord,
};
use std::fmt;

/// A section of an index. *Hot* sections are needed before a mount, *cold* ones later or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectionId {
    /// Fixed records, one per inode; record 0 is inode 1, the root.
    Inodes,
    /// Directory entries, those of one directory together and sorted by name.
    Entries,
    /// The pool of byte strings: names, link targets, xattr names and values.
    Names,
    /// Ranges of xattr records, each set once.
    XattrSets,
    /// Name and value of an xattr, both in the pool.
    Xattrs,
    /// Data ranges of sparse files.
    Extents,
    /// The chunk table with its sentinel.
    Chunks,
    /// Leaf digests.
    Leaves,
    /// The layers of a merged index, bottom first.
    Layers,
    /// Cold: checkpoints, concatenated; the chunk table holds where each one starts.
    Checkpoints,
    /// Cold: digests of whole files' content, sorted by inode.
    ContentDigests,
    /// Cold: every byte of the tar stream that is no file's content, compressed by the builder.
    Headers,
}

impl SectionId {
    /// All sections in the order of the file: hot ones first.
    pub const ALL: [SectionId; 12] = [
        SectionId::Inodes,
        SectionId::Entries,
        SectionId::Names,
        SectionId::XattrSets,
        SectionId::Xattrs,
        SectionId::Extents,
        SectionId::Chunks,
        SectionId::Leaves,
        SectionId::Layers,
        SectionId::Checkpoints,
        SectionId::ContentDigests,
        SectionId::Headers,
    ];

    /// The number that the section table holds. Cold sections start at [`FIRST_COLD`].
    pub const fn number(self) -> u32 {
        match self {
            SectionId::Inodes => 1,
            SectionId::Entries => 2,
            SectionId::Names => 3,
            SectionId::XattrSets => 4,
            SectionId::Xattrs => 5,
            SectionId::Extents => 6,
            SectionId::Chunks => 7,
            SectionId::Leaves => 8,
            SectionId::Layers => 9,
            SectionId::Checkpoints => 64,
            SectionId::ContentDigests => 65,
            SectionId::Headers => 66,
        }
    }

    /// The section with this number; `None` for one that this version does not know.
    pub fn from_number(number: u32) -> Option<SectionId> {
        SectionId::ALL
            .into_iter()
            .find(|section| section.number() == number)
    }

    /// Whether the section is fetched only when needed.
    pub const fn is_cold(self) -> bool {
        self.number() >= FIRST_COLD
    }

    /// The position in [`SectionId::ALL`].
    pub(crate) const fn slot(self) -> usize {
        self as usize
    }

    /// What the section is made of.
    pub(crate) const fn records(self) -> Records {
        let (size, limit, what) = match self {
            SectionId::Inodes => (size_of::<InodeRecord>(), MAX_INODES as u64, "inodes"),
            SectionId::Entries => (size_of::<EntryRecord>(), MAX_ENTRIES as u64, "entries"),
            SectionId::Names => (1, MAX_POOL_SIZE, "bytes of names"),
            SectionId::XattrSets => (size_of::<XattrSetRecord>(), MAX_INODES as u64, "xattr sets"),
            SectionId::Xattrs => (size_of::<XattrRecord>(), MAX_ENTRIES as u64, "xattrs"),
            SectionId::Extents => (size_of::<ExtentRecord>(), MAX_EXTENTS as u64, "extents"),
            SectionId::Chunks => (size_of::<ChunkRecord>(), MAX_CHUNKS + 1, "chunk records"),
            SectionId::Leaves => (size_of::<DigestRecord>(), MAX_CHUNKS, "leaves"),
            SectionId::Layers => (size_of::<LayerRecord>(), MAX_LAYERS as u64, "layers"),
            SectionId::ContentDigests => (
                size_of::<ContentDigestRecord>(),
                MAX_INODES as u64,
                "content digests",
            ),
            // Bounded by what a caller allows when it fetches them.
            SectionId::Checkpoints => (1, u64::MAX, "bytes of checkpoints"),
            SectionId::Headers => (1, u64::MAX, "bytes of headers"),
        };
        Records { size, limit, what }
    }

    /// A word for error messages and for file names.
    pub const fn name(self) -> &'static str {
        match self {
            SectionId::Inodes => "inodes",
            SectionId::Entries => "entries",
            SectionId::Names => "names",
            SectionId::XattrSets => "xattr-sets",
            SectionId::Xattrs => "xattrs",
            SectionId::Extents => "extents",
            SectionId::Chunks => "chunks",
            SectionId::Leaves => "leaves",
            SectionId::Layers => "layers",
            SectionId::Checkpoints => "checkpoints",
            SectionId::ContentDigests => "content-digests",
            SectionId::Headers => "headers",
        }
    }
}

impl fmt::Display for SectionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The first section number that belongs to a cold section, known or not.
pub const FIRST_COLD: u32 = 64;

/// What a section is made of.
pub(crate) struct Records {
    /// Bytes of a record; 1 where there are none.
    pub(crate) size: usize,
    /// How many records the format allows.
    pub(crate) limit: u64,
    /// What they are, for errors.
    pub(crate) what: &'static str,
}

#[cfg(test)]
mod tests {
    use crate::section::SectionId;
    use crate::wire::stride;

    /// The table of FORMAT.md is what the code does.
    #[test]
    fn the_specification_lists_every_section_as_it_is() {
        let specification = include_str!("../FORMAT.md");
        for section in SectionId::ALL {
            let record = match section.records().size {
                1 => "bytes".to_owned(),
                size => size.to_string(),
            };
            let columns = if stride(section.number()) > 1 {
                " yes "
            } else {
                " "
            };
            let (number, name) = (section.number(), section.name().replace('-', " "));
            let row = format!("| {number} | {name} | {record} |{columns}|");
            assert!(specification.contains(&row), "FORMAT.md has no row {row:?}");
            assert_eq!(SectionId::from_number(number), Some(section));
        }
        assert_eq!(SectionId::from_number(0), None);
    }
}
