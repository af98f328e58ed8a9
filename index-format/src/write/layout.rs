//! Lays a draft out: numbers its inodes breadth first, so that the entries and the inodes of
//! one directory lie together, and makes the records.

use crate::draft::{DraftContent, DraftId, DraftNode};
use crate::extent::Extent;
use crate::inode::FileKind;
use crate::limit::{MAX_ENTRIES, MAX_EXTENTS, MAX_INODES};
use crate::pool::Pool;
use crate::record::{
    ContentDigestRecord, EntryRecord, ExtentRecord, FLAG_IMPLICIT, FLAG_OPAQUE, FLAG_SPARSE,
    InodeRecord, XattrRecord, XattrSetRecord, place_of,
};
use crate::section::SectionId;
use crate::write::{Sections, Source, WriteError};
use std::collections::HashMap;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// What numbering has found out about a node.
#[derive(Clone, Copy, Default)]
struct Place {
    /// 0: not reached yet.
    number: u32,
    parent: u32,
    nlink: u32,
    /// Of directories.
    first_entry: u32,
    entry_count: u32,
}

/// Makes the sections that describe the tree. What is done with goes at once: of a million files
/// everything here is large.
pub(crate) fn lay_out(mut source: impl Source) -> Result<Sections, WriteError> {
    let mut pool = Pool::with_capacity(source.node_count());
    let mut places = vec![Place::default(); source.node_count()];
    let (order, entries) = number(&source, &mut places, &mut pool)?;
    source.forget_entries();
    let mut tables = Tables::default();
    let mut inodes = Vec::with_capacity(order.len() * size_of::<InodeRecord>());
    for &id in &order {
        let record = tables.inode_record(&source.node(id), &places[id as usize], &mut pool)?;
        inodes.extend_from_slice(record.as_bytes());
    }
    drop((source, order, places));
    let mut sections = Sections::default();
    sections.set(SectionId::Inodes, inodes);
    sections.set(SectionId::Entries, entries);
    sections.set(SectionId::Names, pool.into_bytes());
    sections.set(SectionId::XattrSets, tables.sets.as_bytes().to_vec());
    sections.set(SectionId::Xattrs, tables.xattrs.as_bytes().to_vec());
    sections.set(SectionId::Extents, tables.extents.as_bytes().to_vec());
    sections.set(SectionId::ContentDigests, tables.digests);
    Ok(sections)
}

/// Numbers every node that is reached, in breadth-first order of sorted names, and makes the
/// entries section on the way.
fn number(
    source: &impl Source,
    places: &mut [Place],
    pool: &mut Pool,
) -> Result<(Vec<DraftId>, Vec<u8>), WriteError> {
    let mut order: Vec<DraftId> = vec![0];
    let mut entries = Vec::new();
    let mut count = 0;
    places[0] = Place {
        number: 1,
        parent: 1,
        nlink: 2,
        ..Place::default()
    };
    let mut at = 0;
    while let Some(&directory) = order.get(at) {
        at += 1;
        if source.kind(directory) != FileKind::Directory {
            continue;
        }
        let children = source.entries(directory);
        let value = (count + children.len()) as u64;
        if value > MAX_ENTRIES.into() {
            let limit = MAX_ENTRIES.into();
            return Err(WriteError::Limit {
                what: "names",
                value,
                limit,
            });
        }
        let parent = places[directory as usize].number;
        // MAX_ENTRIES fits 32 bits.
        places[directory as usize].first_entry = count as u32;
        places[directory as usize].entry_count = children.len() as u32;
        count += children.len();
        for &(name, child) in children.iter() {
            let kind = source.kind(child);
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
            place.nlink += if kind == FileKind::Directory { 2 } else { 1 };
            let number = place.number;
            if kind == FileKind::Directory {
                places[directory as usize].nlink += 1;
            }
            let record = EntryRecord {
                name_offset: U32::new(pool.intern(name)?),
                inode: U32::new(number),
                // Trees take no name that is longer than MAX_NAME_LENGTH, 255.
                name_length: name.len() as u8,
                kind: kind.number(),
                reserved: [0; 2],
            };
            entries.extend_from_slice(record.as_bytes());
        }
    }
    Ok((order, entries))
}

/// The sections that inodes refer to, under construction.
#[derive(Default)]
struct Tables {
    /// Numbers of sets by where the names and values of their xattrs are.
    seen_sets: HashMap<Vec<[u32; 4]>, u32>,
    sets: Vec<XattrSetRecord>,
    xattrs: Vec<XattrRecord>,
    extents: Vec<ExtentRecord>,
    /// The section's bytes.
    digests: Vec<u8>,
}

impl Tables {
    fn inode_record(
        &mut self,
        node: &DraftNode<'_>,
        place: &Place,
        pool: &mut Pool,
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
            DraftContent::Directory(_) => place_of(place.first_entry, place.entry_count),
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
            let record = ContentDigestRecord {
                inode: U32::new(place.number),
                reserved: U32::new(0),
                digest: *digest.as_bytes(),
            };
            self.digests.extend_from_slice(record.as_bytes());
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
    fn add_xattrs(
        &mut self,
        xattrs: &[(&[u8], &[u8])],
        pool: &mut Pool,
    ) -> Result<u32, WriteError> {
        if xattrs.is_empty() {
            return Ok(0);
        }
        // Equal strings have equal places.
        let mut set = Vec::with_capacity(xattrs.len());
        for (name, value) in xattrs {
            let (name_at, value_at) = (pool.intern(name)?, pool.intern(value)?);
            set.push([name_at, name.len() as u32, value_at, value.len() as u32]);
        }
        if let Some(&number) = self.seen_sets.get(&set) {
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
        let records = set
            .iter()
            .map(|&[name, name_length, value, value_length]| XattrRecord {
                name_offset: U32::new(name),
                name_length: U32::new(name_length),
                value_offset: U32::new(value),
                value_length: U32::new(value_length),
            });
        self.xattrs.extend(records);
        // No more sets than inodes, of which there are at most MAX_INODES.
        let number = self.sets.len() as u32;
        self.seen_sets.insert(set, number);
        Ok(number)
    }
}
