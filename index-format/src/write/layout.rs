//! Lays a draft out: numbers its inodes breadth first, so that the entries and the inodes of
//! one directory lie together, and makes the records.

use crate::draft::{Draft, DraftContent, DraftId, DraftNode};
use crate::extent::Extent;
use crate::inode::FileKind;
use crate::limit::{MAX_ENTRIES, MAX_EXTENTS, MAX_INODES};
use crate::pool::Pool;
use crate::record::{
    ContentDigestRecord, EntryRecord, ExtentRecord, FLAG_IMPLICIT, FLAG_OPAQUE, FLAG_SPARSE,
    InodeRecord, XattrRecord, XattrSetRecord, place_of,
};
use crate::section::SectionId;
use crate::write::{Sections, WriteError};
use std::collections::HashMap;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// The xattrs of one inode, sorted by name.
type XattrSet<'a> = &'a [(&'a [u8], &'a [u8])];

/// What numbering has found out about a node.
#[derive(Clone, Copy, Default)]
struct Place {
    /// 0: not reached yet.
    number: u32,
    parent: u32,
    nlink: u32,
    /// Of directories.
    first_entry: u32,
}

/// Makes the sections that describe the tree.
pub(crate) fn lay_out(draft: &Draft<'_>) -> Result<Sections, WriteError> {
    let mut pool = Pool::with_capacity(draft.nodes.len());
    let mut places = vec![Place::default(); draft.nodes.len()];
    let (order, entries) = number(draft, &mut places, &mut pool)?;
    let mut tables = Tables::default();
    let mut inodes = Vec::with_capacity(order.len());
    for &id in &order {
        let node = &draft.nodes[id as usize];
        let place = &places[id as usize];
        inodes.push(tables.inode_record(node, place, &mut pool)?);
    }
    let mut sections = Sections::default();
    // Each copy is made when the one before has gone.
    sections.set(SectionId::Inodes, inodes.as_bytes().to_vec());
    drop((inodes, order, places));
    sections.set(SectionId::Entries, entries.as_bytes().to_vec());
    drop(entries);
    sections.set(SectionId::Names, pool.into_bytes());
    sections.set(SectionId::XattrSets, tables.sets.as_bytes().to_vec());
    sections.set(SectionId::Xattrs, tables.xattrs.as_bytes().to_vec());
    sections.set(SectionId::Extents, tables.extents.as_bytes().to_vec());
    sections.set(
        SectionId::ContentDigests,
        tables.digests.as_bytes().to_vec(),
    );
    Ok(sections)
}

/// Numbers every node that is reached, in breadth-first order of sorted names, and makes the
/// entries on the way.
fn number<'a>(
    draft: &Draft<'a>,
    places: &mut [Place],
    pool: &mut Pool<'a>,
) -> Result<(Vec<DraftId>, Vec<EntryRecord>), WriteError> {
    let mut order: Vec<DraftId> = vec![0];
    let mut entries: Vec<EntryRecord> = Vec::new();
    places[0] = Place {
        number: 1,
        parent: 1,
        nlink: 2,
        first_entry: 0,
    };
    let mut at = 0;
    while let Some(&directory) = order.get(at) {
        at += 1;
        let DraftContent::Directory(children) = &draft.nodes[directory as usize].content else {
            continue;
        };
        let value = (entries.len() + children.len()) as u64;
        if value > MAX_ENTRIES.into() {
            let limit = MAX_ENTRIES.into();
            return Err(WriteError::Limit {
                what: "names",
                value,
                limit,
            });
        }
        let parent = places[directory as usize].number;
        places[directory as usize].first_entry = entries.len() as u32;
        for &(name, child) in children {
            let content = &draft.nodes[child as usize].content;
            let place = &mut places[child as usize];
            if place.number == 0 {
                order.push(child);
                if order.len() > MAX_INODES as usize {
                    let (value, limit) = (order.len() as u64, MAX_INODES.into());
                    return Err(WriteError::Limit {
                        what: "inodes",
                        value,
                        limit,
                    });
                }
                place.number = order.len() as u32;
                place.parent = parent;
            }
            place.nlink += if content.is_directory() { 2 } else { 1 };
            let number = place.number;
            if content.is_directory() {
                places[directory as usize].nlink += 1;
            }
            entries.push(EntryRecord {
                name_offset: U32::new(pool.intern(name)?),
                inode: U32::new(number),
                // Trees take no name that is longer than MAX_NAME_LENGTH, 255.
                name_length: name.len() as u8,
                kind: content.kind().number(),
                reserved: [0; 2],
            });
        }
    }
    Ok((order, entries))
}

/// The sections that inodes refer to, under construction.
#[derive(Default)]
struct Tables<'a> {
    seen_sets: HashMap<XattrSet<'a>, u32>,
    sets: Vec<XattrSetRecord>,
    xattrs: Vec<XattrRecord>,
    extents: Vec<ExtentRecord>,
    digests: Vec<ContentDigestRecord>,
}

impl<'a> Tables<'a> {
    fn inode_record(
        &mut self,
        node: &'a DraftNode<'a>,
        place: &Place,
        pool: &mut Pool<'a>,
    ) -> Result<InodeRecord, WriteError> {
        let mut flags = 0;
        if node.opaque {
            flags |= FLAG_OPAQUE;
        }
        if node.implicit {
            flags |= FLAG_IMPLICIT;
        }
        let mut size = 0;
        let location = match &node.content {
            // MAX_ENTRIES fits 32 bits.
            DraftContent::Directory(children) => place_of(place.first_entry, children.len() as u32),
            DraftContent::Whole {
                size: bytes,
                stream_offset,
            } => {
                size = *bytes;
                // An empty file has no place; one spelling keeps indexes of equal layers equal.
                U64::new(if size == 0 { 0 } else { *stream_offset })
            }
            DraftContent::Sparse {
                size: bytes,
                extents,
            } => {
                size = *bytes;
                flags |= FLAG_SPARSE;
                self.add_extents(extents)?
            }
            DraftContent::Link { target, .. } => {
                if node.content.kind() == FileKind::Symlink {
                    size = target.len() as u64;
                }
                // A target has at most MAX_TARGET_LENGTH bytes.
                place_of(pool.intern(target)?, target.len() as u32)
            }
            DraftContent::Device { major, minor, .. } => place_of(*major, *minor),
            DraftContent::Plain(_) => U64::new(0),
        };
        if let Some(digest) = node.digest
            && node.content.kind() == FileKind::Regular
        {
            self.digests.push(ContentDigestRecord {
                inode: U32::new(place.number),
                reserved: U32::new(0),
                digest: *digest.as_bytes(),
            });
        }
        Ok(InodeRecord {
            size: U64::new(size),
            mtime_seconds: U64::new(node.attributes.mtime.seconds as u64),
            place: location,
            mtime_nanoseconds: U32::new(node.attributes.mtime.nanoseconds),
            uid: U32::new(node.attributes.uid),
            gid: U32::new(node.attributes.gid),
            nlink: U32::new(place.nlink),
            xattr_set: U32::new(self.add_xattrs(&node.xattrs, pool)?),
            parent: U32::new(place.parent),
            layer: U32::new(node.layer),
            permissions: node.attributes.permissions.into(),
            kind: node.content.kind().number(),
            flags,
        })
    }

    fn add_extents(&mut self, extents: &[Extent]) -> Result<U64, WriteError> {
        let value = (self.extents.len() + extents.len()) as u64;
        if value > MAX_EXTENTS.into() {
            let limit = MAX_EXTENTS.into();
            return Err(WriteError::Limit {
                what: "extents of sparse files",
                value,
                limit,
            });
        }
        let first = self.extents.len() as u32;
        self.extents
            .extend(extents.iter().map(|extent| ExtentRecord {
                file_offset: U64::new(extent.file_offset.0),
                stream_offset: U64::new(extent.stream_offset.0),
                length: U64::new(extent.length),
            }));
        Ok(place_of(first, extents.len() as u32))
    }

    /// The number of the set, counted from 1; 0 for no xattrs.
    fn add_xattrs(&mut self, xattrs: XattrSet<'a>, pool: &mut Pool<'a>) -> Result<u32, WriteError> {
        if xattrs.is_empty() {
            return Ok(0);
        }
        if let Some(&number) = self.seen_sets.get(xattrs) {
            return Ok(number);
        }
        let value = (self.xattrs.len() + xattrs.len()) as u64;
        if value > MAX_ENTRIES.into() {
            return Err(WriteError::Limit {
                what: "xattrs",
                value,
                limit: MAX_ENTRIES.into(),
            });
        }
        self.sets.push(XattrSetRecord {
            first: U32::new(self.xattrs.len() as u32),
            count: U32::new(xattrs.len() as u32),
        });
        for (name, value) in xattrs {
            self.xattrs.push(XattrRecord {
                name_offset: U32::new(pool.intern(name)?),
                name_length: U32::new(name.len() as u32),
                value_offset: U32::new(pool.intern(value)?),
                value_length: U32::new(value.len() as u32),
            });
        }
        // No more sets than inodes, of which there are at most MAX_INODES.
        let number = self.sets.len() as u32;
        self.seen_sets.insert(xattrs, number);
        Ok(number)
    }
}
