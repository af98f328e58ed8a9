//! A tree as the writer wants it: nodes in an arena, names and contents borrowed from wherever
//! the tree came from (a [`crate::Tree`], or the indexes being merged).

use crate::digest::Digest;
use crate::extent::Extent;
use crate::inode::{FileKind, Timestamp};
use std::borrow::Cow;

/// Position of a node in its draft; 0 is the root.
pub(crate) type DraftId = u32;

/// A name and what it names.
pub(crate) type DraftEntry<'a> = (&'a [u8], DraftId);

/// A tree ready to be laid out.
#[derive(Debug, Default)]
pub(crate) struct Draft<'a> {
    /// Nodes in any order; those that no directory reaches are left out of the index.
    pub(crate) nodes: Vec<DraftNode<'a>>,
}

/// The attributes that every kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) permissions: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
}

impl Attributes {
    /// What a directory gets that no entry describes: unpackers make it with mode 0755 for
    /// root; they leave its mtime at the time of unpacking, which here must be the same
    /// for everybody.
    pub(crate) const IMPLICIT_DIRECTORY: Attributes = Attributes {
        permissions: 0o755,
        uid: 0,
        gid: 0,
        mtime: Timestamp {
            seconds: 0,
            nanoseconds: 0,
        },
    };
}

/// An inode-to-be.
#[derive(Clone, Debug)]
pub(crate) struct DraftNode<'a> {
    pub(crate) attributes: Attributes,
    pub(crate) layer: u32,
    pub(crate) opaque: bool,
    pub(crate) implicit: bool,
    /// Sorted by name, names unique.
    pub(crate) xattrs: Vec<(&'a [u8], &'a [u8])>,
    /// Of a regular file's content, where known.
    pub(crate) digest: Option<&'a Digest>,
    pub(crate) content: DraftContent<'a>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum DraftContent<'a> {
    /// Entries sorted by name.
    Directory(Vec<DraftEntry<'a>>),
    /// A file in one piece.
    Whole { size: u64, stream_offset: u64 },
    /// A file with holes.
    Sparse {
        size: u64,
        extents: Cow<'a, [Extent]>,
    },
    /// A symlink or foreign link.
    Link { kind: FileKind, target: &'a [u8] },
    /// A device.
    Device {
        kind: FileKind,
        major: u32,
        minor: u32,
    },
    /// Fifos, sockets, whiteouts.
    Plain(FileKind),
}

impl DraftContent<'_> {
    /// The kind of inode this becomes.
    pub(crate) fn kind(&self) -> FileKind {
        match self {
            DraftContent::Directory(_) => FileKind::Directory,
            DraftContent::Whole { .. } | DraftContent::Sparse { .. } => FileKind::Regular,
            DraftContent::Link { kind, .. }
            | DraftContent::Device { kind, .. }
            | DraftContent::Plain(kind) => *kind,
        }
    }

    /// Whether this is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, DraftContent::Directory(_))
    }
}
