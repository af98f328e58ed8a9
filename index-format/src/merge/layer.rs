//! A layer's index read into memory for merging: directories with their entries in order.

use crate::draft::{Attributes, DraftContent, DraftNode};
use crate::error::FormatError;
use crate::index::Index;
use crate::inode::{FileKind, Inode, InodeNumber};
use crate::record::{FLAG_IMPLICIT, FLAG_OPAQUE, InodeRecord};
use crate::section::SectionId;
use std::borrow::Cow;

/// A layer ready to be merged. That every directory is named once, and after its parent, has
/// been checked here: the merge's loops end whatever the bytes say.
pub(crate) struct Layer<'a> {
    pub(crate) index: &'a Index,
    pub(crate) number: u32,
    inodes: &'a [InodeRecord],
    entries: Vec<LayerEntry<'a>>,
    /// By inode slot: the range of a directory's entries.
    ranges: Vec<(u32, u32)>,
    /// By inode slot: whether a directory has or holds anything but markers.
    has_content: Vec<bool>,
}

/// A name in a directory of the layer.
#[derive(Clone, Copy)]
pub(crate) struct LayerEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) inode: InodeNumber,
    pub(crate) kind: FileKind,
}

impl<'a> Layer<'a> {
    pub(crate) fn read(index: &'a Index, number: u32) -> Result<Layer<'a>, FormatError> {
        let count = index.inode_count();
        let mut layer = Layer {
            index,
            number,
            inodes: index.records(SectionId::Inodes)?,
            entries: Vec::with_capacity(index.entry_count() as usize),
            ranges: Vec::with_capacity(count as usize),
            has_content: Vec::new(),
        };
        if index.inode(InodeNumber::ROOT)?.kind != FileKind::Directory {
            return Err(FormatError::NotDirectory(InodeNumber::ROOT.0));
        }
        let mut named = vec![false; count as usize];
        for inode in (1..=count).map(InodeNumber) {
            let start = layer.entries.len() as u32;
            if layer.kind(inode) == Some(FileKind::Directory) {
                layer.read_entries(inode, &mut named)?;
            }
            layer.ranges.push((start, layer.entries.len() as u32));
        }
        layer.find_content();
        Ok(layer)
    }

    fn read_entries(
        &mut self,
        directory: InodeNumber,
        named: &mut [bool],
    ) -> Result<(), FormatError> {
        let mut previous: &[u8] = b"";
        for entry in self.index.entries(directory)? {
            let entry = entry?;
            let wrong = |problem| FormatError::Inode {
                inode: directory.0,
                problem,
            };
            let slot = slot(entry.inode);
            let named = named
                .get_mut(slot)
                .ok_or(FormatError::NoSuchInode(entry.inode.0))?;
            if self.kind(entry.inode) != Some(entry.kind) {
                return Err(wrong("an entry is not of its inode's kind"));
            }
            if entry.kind == FileKind::Directory && (*named || entry.inode <= directory) {
                return Err(wrong(
                    "a directory has two names or comes before its parent",
                ));
            }
            if entry.name <= previous {
                return Err(wrong("names are not in ascending order"));
            }
            *named = true;
            previous = entry.name;
            if self.entries.len() >= crate::limit::MAX_ENTRIES as usize {
                let (value, limit) = (self.entries.len() as u64, crate::limit::MAX_ENTRIES.into());
                return Err(FormatError::Limit {
                    what: "names",
                    value,
                    limit,
                });
            }
            let (name, inode, kind) = (entry.name, entry.inode, entry.kind);
            self.entries.push(LayerEntry { name, inode, kind });
        }
        Ok(())
    }

    /// Directories come after their parents, so going backwards every child is known first.
    fn find_content(&mut self) {
        let mut has_content = vec![false; self.inodes.len()];
        for inode in (1..=self.inodes.len() as u32).rev().map(InodeNumber) {
            has_content[slot(inode)] = !self.is_implicit(inode)
                || self.entries(inode).iter().any(|entry| match entry.kind {
                    FileKind::Whiteout => false,
                    FileKind::Directory => has_content[slot(entry.inode)],
                    _ => true,
                });
        }
        self.has_content = has_content;
    }

    /// Whether unpacking a directory of this layer leaves anything behind.
    pub(crate) fn has_content(&self, inode: InodeNumber) -> bool {
        self.has_content.get(slot(inode)).copied().unwrap_or(false)
    }

    fn record(&self, inode: InodeNumber) -> Option<&'a InodeRecord> {
        self.inodes.get(slot(inode))
    }

    fn kind(&self, inode: InodeNumber) -> Option<FileKind> {
        FileKind::from_number(self.record(inode)?.kind)
    }

    /// Whether a directory of this layer is one that no entry names.
    pub(crate) fn is_implicit(&self, inode: InodeNumber) -> bool {
        self.record(inode)
            .is_some_and(|record| record.flags & FLAG_IMPLICIT != 0)
    }

    /// Whether a directory of this layer hides what the layers below have in it.
    pub(crate) fn is_opaque(&self, inode: InodeNumber) -> bool {
        self.record(inode)
            .is_some_and(|record| record.flags & FLAG_OPAQUE != 0)
    }

    /// The inode as a node of the union; directories without their entries.
    pub(crate) fn node(&self, inode: InodeNumber) -> Result<DraftNode<'a>, FormatError> {
        draft_node(self.index, &self.index.inode(inode)?, self.number)
    }

    /// Every inode that links to a path which this layer does not hold, with that path.
    pub(crate) fn foreign_links(&self) -> impl Iterator<Item = (InodeNumber, &'a [u8])> {
        let inodes = (1..).map(InodeNumber).zip(self.inodes);
        let links = inodes.filter(|(_, record)| record.kind == FileKind::ForeignLink.number());
        links.filter_map(|(inode, _)| Some((inode, self.index.symlink_target(inode).ok()?)))
    }

    /// The entries of a directory; none for anything else.
    pub(crate) fn entries(&self, inode: InodeNumber) -> &[LayerEntry<'a>] {
        let (start, end) = self.ranges.get(slot(inode)).copied().unwrap_or((0, 0));
        &self.entries[start as usize..end as usize]
    }
}

/// Inode numbers count from 1; number 0, which no index has, finds no slot.
fn slot(inode: InodeNumber) -> usize {
    (inode.0 as usize).wrapping_sub(1)
}

fn draft_node<'a>(
    index: &'a Index,
    inode: &Inode,
    layer: u32,
) -> Result<DraftNode<'a>, FormatError> {
    let content = match inode.kind {
        FileKind::Directory => DraftContent::Directory(Vec::new()),
        FileKind::Regular if inode.sparse => DraftContent::Sparse {
            size: inode.size,
            extents: Cow::Owned(index.extents(inode.number)?),
        },
        FileKind::Regular => DraftContent::Whole {
            size: inode.size,
            stream_offset: index.inode_record(inode.number)?.place.get(),
        },
        FileKind::Symlink | FileKind::ForeignLink => DraftContent::Link {
            kind: inode.kind,
            target: index.symlink_target(inode.number)?,
        },
        FileKind::CharDevice | FileKind::BlockDevice => DraftContent::Device {
            kind: inode.kind,
            major: inode.device.major,
            minor: inode.device.minor,
        },
        FileKind::Fifo | FileKind::Socket | FileKind::Whiteout => DraftContent::Plain(inode.kind),
    };
    let xattrs = match inode.has_xattrs {
        true => index.xattrs(inode.number)?.collect::<Result<_, _>>()?,
        false => Vec::new(),
    };
    Ok(DraftNode {
        attributes: Attributes {
            permissions: inode.permissions,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
        },
        layer,
        // Says something about the layers below, and has said it.
        opaque: false,
        implicit: inode.implicit,
        xattrs,
        digest: None,
        content,
    })
}
