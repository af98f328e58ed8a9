//! The sections of an index and their numbers in the section table.

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
