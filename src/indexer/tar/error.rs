//! Why an archive is not accepted, and what was odd about one that is.

use std::fmt;

/// Bytes of a path for people: non-printing and non-ASCII bytes escaped.
struct Shown<'a>(&'a [u8]);

/// A message shows at most this much of a path: hostile ones may be a megabyte long.
const SHOWN_MAX: usize = 300;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SHOWN_MAX) {
            Some(start) if self.0.len() > SHOWN_MAX => write!(f, "{}…", start.escape_ascii()),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

/// Why the archive is refused. Offsets count bytes of the uncompressed stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// The block is no header, or was damaged.
    #[error("tar header at byte {offset} has a wrong checksum")]
    Checksum {
        /// Start of the block.
        offset: u64,
    },
    /// One block of zeros must be followed by another.
    #[error("tar block of zeros before byte {offset} is not followed by a second one")]
    LoneZeroBlock {
        /// Start of the block after the zeros.
        offset: u64,
    },
    /// The stream ends inside an entry.
    #[error("tar stream ends at byte {offset}, inside {inside}")]
    Truncated {
        /// Where it ends.
        offset: u64,
        /// What is incomplete.
        inside: &'static str,
    },
    /// A numeric field holds no number, or one that cannot be.
    #[error("tar entry at byte {offset} has a bad {field}")]
    Field {
        /// Start of the header.
        offset: u64,
        /// Which field.
        field: &'static str,
    },
    /// A PAX header does not follow its grammar.
    #[error("PAX header at byte {offset} is malformed: {what}")]
    Pax {
        /// Start of the header.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A sparse map is malformed, or does not agree with the sizes.
    #[error("sparse file at byte {offset} of the tar stream has a bad map: {what}")]
    Sparse {
        /// Start of the header.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A path would leave the layer's root.
    #[error("tar entry {} has a path or link target with \"..\": the layer is refused", Shown(.path))]
    PathEscapes {
        /// The path as it stands in the archive.
        path: Vec<u8>,
    },
    /// A path holds a NUL.
    #[error("tar path {} holds a NUL", Shown(.path))]
    NulInPath {
        /// The path as it stands in the archive.
        path: Vec<u8>,
    },
    /// A path or one of its components is too long.
    #[error("tar path {} is longer than {limit} bytes, or a component of it is", Shown(.path))]
    PathTooLong {
        /// The path as it stands in the archive.
        path: Vec<u8>,
        /// The limit it breaks.
        limit: usize,
    },
    /// A path has too many components.
    #[error("tar path {} is deeper than {limit} directories", Shown(.path))]
    PathTooDeep {
        /// The path as it stands in the archive.
        path: Vec<u8>,
        /// The limit.
        limit: usize,
    },
    /// A symbolic link that no filesystem could hold.
    #[error("symbolic link {} has an impossible target of {length} bytes", Shown(.path))]
    SymlinkTarget {
        /// The link.
        path: Vec<u8>,
        /// Length of its target.
        length: usize,
    },
    /// An extended attribute that the kernel could not hold.
    #[error("extended attributes of {} are beyond what the kernel holds: {}", Shown(.path), Shown(.name))]
    Xattr {
        /// The entry.
        path: Vec<u8>,
        /// The attribute that breaks the limit.
        name: Vec<u8>,
    },
    /// A named limit of the reader is exceeded.
    #[error("tar entry at byte {offset} exceeds the limit of {limit} {of}")]
    Limit {
        /// Start of the header.
        offset: u64,
        /// The limit.
        limit: u64,
        /// What is limited, with its unit.
        of: &'static str,
    },
    /// The reader was used after an error.
    #[error("tar reader was fed after an error")]
    Failed,
}

/// Something odd that did not stop the layer from being read. Each has its path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A type of entry that is not a file of any kind; its data was passed over.
    #[error("entry {} of unknown type {} was skipped", Shown(.path), Shown(&[*.type_flag]))]
    UnknownType {
        /// The entry.
        path: Vec<u8>,
        /// Its type flag.
        type_flag: u8,
    },
    /// A global PAX header set something; containerd and Docker ignore these.
    #[error("a global PAX header sets {}, which other unpackers ignore", Shown(.key))]
    GlobalRecord {
        /// The record's key.
        key: Vec<u8>,
    },
    /// Extended headers at the end of the archive belong to no entry.
    #[error("extended headers at the end of the archive belong to no entry")]
    DanglingHeader,
    /// A character device 0:0, which overlayfs takes for a whiteout.
    #[error("{} is a character device 0:0 and was taken for a whiteout", Shown(.path))]
    DeviceWhiteout {
        /// The entry.
        path: Vec<u8>,
    },
    /// overlayfs's own attribute, which no layer may set.
    #[error("extended attribute {} of {} was dropped", Shown(.name), Shown(.path))]
    OverlayXattr {
        /// The entry.
        path: Vec<u8>,
        /// The attribute.
        name: Vec<u8>,
    },
    /// Metadata of aufs, which is no part of the tree.
    #[error("{} is metadata of aufs and was skipped", Shown(.path))]
    Aufs {
        /// The entry.
        path: Vec<u8>,
    },
    /// The root can only be a directory.
    #[error("an entry for the root that is no directory was skipped")]
    RootNotDirectory,
    /// A hard link to its own path.
    #[error("{} is a hard link to itself and was skipped", Shown(.path))]
    SelfLink {
        /// The entry.
        path: Vec<u8>,
    },
    /// The non-payload bytes compress too badly to be kept.
    #[error("the headers section was left out: it would exceed its limit")]
    HeadersLeftOut,
}
