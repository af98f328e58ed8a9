//! What can be wrong with the bytes of an index.

use crate::digest::Digest;
use crate::section::SectionId;

/// Bytes that are not an index this version can read, or a question an index cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The first bytes are not those of an index.
    #[error("not a brisk index: the magic bytes are missing")]
    BadMagic,
    /// The bytes end too early.
    #[error("index is cut short: {what} needs {needed} bytes, {available} are there")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes wanted.
        needed: u64,
        /// Bytes present.
        available: u64,
    },
    /// A major version this reader does not know.
    #[error(
        "index has format version {found}, this brisk reads version {supported}; \
         a newer brisk or another index of the layer is needed"
    )]
    UnsupportedVersion {
        /// The file's major version.
        found: u16,
        /// The major version this crate reads.
        supported: u16,
    },
    /// Required feature bits this reader does not know.
    #[error(
        "index needs features this brisk does not have (unknown bits {bits:#x}); \
         a newer brisk or another index of the layer is needed"
    )]
    UnsupportedFeatures {
        /// The unknown bits.
        bits: u64,
    },
    /// A field of the header holds a value that the specification forbids.
    #[error("index header: {field} must not be {value}")]
    Header {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The section table says something impossible about a section.
    #[error("index section {section}: {problem}")]
    Section {
        /// The section's number.
        section: u32,
        /// What is wrong.
        problem: &'static str,
    },
    /// A section's bytes do not have the digest that the header holds.
    #[error("index section {section} has digest {found}, its header says {expected}")]
    SectionDigest {
        /// The section's number.
        section: u32,
        /// The header's digest.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// A cold section was asked of an index that was opened without it.
    #[error("index section {section} has not been fetched")]
    SectionAbsent {
        /// The section.
        section: SectionId,
    },
    /// A reference points outside of what it refers to.
    #[error("index: {what} {value} is out of range (limit {limit})")]
    OutOfRange {
        /// The kind of reference.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The first value out of range.
        limit: u64,
    },
    /// More of something than the format's named limit allows.
    #[error("index: {value} {what} are more than the limit of {limit}")]
    Limit {
        /// What is too many or too large.
        what: &'static str,
        /// How many, or how large.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// An inode number that the index does not have.
    #[error("index has no inode {0}")]
    NoSuchInode(u32),
    /// A directory's question asked of something else.
    #[error("inode {0} is not a directory")]
    NotDirectory(u32),
    /// A symlink's question asked of something else.
    #[error("inode {0} has no link target")]
    NotLink(u32),
    /// A regular file's question asked of something else.
    #[error("inode {0} is not a regular file")]
    NotRegular(u32),
    /// An inode record that breaks a rule.
    #[error("index, inode {inode}: {problem}")]
    Inode {
        /// The inode's number.
        inode: u32,
        /// The broken rule.
        problem: &'static str,
    },
    /// A directory entry that breaks a rule.
    #[error("index, directory entry {entry}: {problem}")]
    Entry {
        /// Position in the entry section.
        entry: u32,
        /// The broken rule.
        problem: &'static str,
    },
    /// A chunk record that breaks a rule.
    #[error("index, chunk {chunk}: {problem}")]
    Chunk {
        /// The chunk's number.
        chunk: u32,
        /// The broken rule.
        problem: &'static str,
    },
    /// A record of another section that breaks a rule.
    #[error("index section {section}, record {record}: {problem}")]
    Record {
        /// The section.
        section: SectionId,
        /// Position in the section.
        record: u64,
        /// The broken rule.
        problem: &'static str,
    },
    /// Compressed bytes of the network form that do not decompress to what the header declares.
    #[error("index section {section} does not decompress: {problem}")]
    Compressed {
        /// The section's number.
        section: u32,
        /// What the decompressor said.
        problem: String,
    },
}

impl FormatError {
    /// Whether the index may be fine but needs a newer reader; the next source is worth a try
    /// and nothing is to be reported as damaged.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self,
            FormatError::UnsupportedVersion { .. } | FormatError::UnsupportedFeatures { .. }
        )
    }

    /// Whether a cold section is wanted that was not fetched yet.
    pub fn is_section_absent(&self) -> bool {
        matches!(self, FormatError::SectionAbsent { .. })
    }
}
