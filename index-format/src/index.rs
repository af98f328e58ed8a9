//! An index that has been opened: sections found, nothing parsed.

use crate::digest::Digest;
use crate::error::FormatError;
use crate::extent::Extent;
use crate::header::{Compression, Features, Header, IndexKind};
use crate::inode::{FileKind, Inode, InodeNumber};
use crate::offset::{FileOffset, StreamOffset};
use crate::record::{
    ChunkRecord, ContentDigestRecord, DigestRecord, EntryRecord, ExtentRecord, FLAG_SPARSE,
    InodeRecord, LayerRecord, XattrRecord, XattrSetRecord, range_of,
};
use crate::section::SectionId;
use std::fmt;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// An opened index. Cheap to clone; every access checks its bounds and so is safe on bytes that
/// were never validated, though only [`Index::validate`] makes the answers trustworthy.
#[derive(Clone)]
pub struct Index {
    inner: Arc<Inner>,
}

struct Inner {
    bytes: Box<dyn AsRef<[u8]> + Send + Sync>,
    header: Header,
}

/// A layer of a merged index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedLayer {
    /// The layer blob's digest.
    pub layer_digest: Digest,
    /// The digest of the layer's tar.
    pub diff_id: Digest,
    /// The identity of the layer's index that was merged.
    pub index_digest: Digest,
    /// Bytes of the layer's blob.
    pub compressed_size: u64,
    /// Bytes of the layer's stream.
    pub stream_size: u64,
    /// How the blob is compressed.
    pub compression: Compression,
}

impl Index {
    /// Opens an index over its bytes: a complete file, or only its hot part. Reads the header
    /// and nothing else, whatever the size.
    ///
    /// # Errors
    /// Bytes that are no index of a known version, or whose length is neither that of the
    /// file nor of its hot part.
    pub fn open(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Index, FormatError> {
        let slice = bytes.as_ref();
        let header = Header::parse(slice)?;
        let available = slice.len() as u64;
        if available < header.hot_size {
            let needed = header.hot_size;
            return Err(FormatError::Truncated {
                what: "the hot part",
                needed,
                available,
            });
        }
        if available != header.hot_size && available != header.file_size {
            let needed = header.file_size;
            return Err(FormatError::Truncated {
                what: "the file",
                needed,
                available,
            });
        }
        check_record_sizes(&header)?;
        Ok(Index {
            inner: Arc::new(Inner {
                bytes: Box::new(bytes),
                header,
            }),
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.inner.header
    }

    /// The identity of the index: the digest of its header, which holds those of its sections.
    pub fn digest(&self) -> Digest {
        self.inner.header.digest
    }

    /// Whether it describes a layer or a whole image.
    pub fn kind(&self) -> IndexKind {
        self.inner.header.kind
    }

    /// The layer blob's digest; zeros in a merged index.
    pub fn layer_digest(&self) -> Digest {
        self.inner.header.layer_digest
    }

    /// The digest of the layer's tar; zeros in a merged index.
    pub fn diff_id(&self) -> Digest {
        self.inner.header.diff_id
    }

    /// Bytes of the layer's blob; 0 in a merged index.
    pub fn compressed_size(&self) -> u64 {
        self.inner.header.compressed_size
    }

    /// Bytes of the layer's uncompressed stream; 0 in a merged index.
    pub fn stream_size(&self) -> u64 {
        self.inner.header.stream_size
    }

    /// How the layer's blob is compressed.
    pub fn compression(&self) -> Compression {
        self.inner.header.compression
    }

    /// Feature bits.
    pub fn features(&self) -> Features {
        self.inner.header.features
    }

    /// All bytes that the index was opened over.
    pub fn as_bytes(&self) -> &[u8] {
        (*self.inner.bytes).as_ref()
    }

    /// Whether the cold sections were left out when the index was opened.
    pub fn is_hot_only(&self) -> bool {
        (self.as_bytes().len() as u64) < self.inner.header.file_size
    }

    /// Whether the section's bytes are here.
    pub fn has_section(&self, section: SectionId) -> bool {
        !section.is_cold() || !self.is_hot_only() || self.section_length(section) == 0
    }

    /// Bytes of a section, present or not.
    pub fn section_length(&self, section: SectionId) -> u64 {
        self.inner.header.section(section).length
    }

    /// The digest of a section, present or not.
    pub fn section_digest(&self, section: SectionId) -> Digest {
        self.inner.header.section(section).digest
    }

    /// The bytes of a section.
    ///
    /// # Errors
    /// [`FormatError::SectionAbsent`] for a cold section of an index that was opened without.
    pub fn section(&self, section: SectionId) -> Result<&[u8], FormatError> {
        let row = self.inner.header.section(section);
        if row.length == 0 {
            return Ok(&[]);
        }
        let end = row
            .offset
            .checked_add(row.length)
            .and_then(|end| usize::try_from(end).ok());
        usize::try_from(row.offset)
            .ok()
            .zip(end)
            .and_then(|(start, end)| self.as_bytes().get(start..end))
            .ok_or(FormatError::SectionAbsent { section })
    }

    /// A section as its records.
    pub(crate) fn records<T>(&self, section: SectionId) -> Result<&[T], FormatError>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        <[T]>::ref_from_bytes(self.section(section)?).map_err(|_| FormatError::Section {
            section: section.number(),
            problem: "is not a whole number of records",
        })
    }

    /// How many inodes there are; their numbers are 1 to this.
    pub fn inode_count(&self) -> u32 {
        // open() has refused more than u32 can count: MAX_INODES.
        (self.section_length(SectionId::Inodes) / size_of::<InodeRecord>() as u64) as u32
    }

    /// How many names there are.
    pub fn entry_count(&self) -> u32 {
        // open() has refused more than u32 can count: MAX_ENTRIES.
        (self.section_length(SectionId::Entries) / size_of::<EntryRecord>() as u64) as u32
    }

    pub(crate) fn inode_record(&self, inode: InodeNumber) -> Result<&InodeRecord, FormatError> {
        let position = inode
            .0
            .checked_sub(1)
            .ok_or(FormatError::NoSuchInode(inode.0))?;
        self.records::<InodeRecord>(SectionId::Inodes)?
            .get(position as usize)
            .ok_or(FormatError::NoSuchInode(inode.0))
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// A number that the index does not have, or a damaged record.
    pub fn inode(&self, inode: InodeNumber) -> Result<Inode, FormatError> {
        Inode::from_record(inode, self.inode_record(inode)?)
    }

    /// The target of a symlink, or the path that a [`FileKind::ForeignLink`] links to.
    ///
    /// # Errors
    /// An inode that is neither, or a damaged record.
    pub fn symlink_target(&self, inode: InodeNumber) -> Result<&[u8], FormatError> {
        let record = self.inode_record(inode)?;
        if !FileKind::from_number(record.kind).is_some_and(FileKind::has_target) {
            return Err(FormatError::NotLink(inode.0));
        }
        let (offset, length) = range_of(record.place);
        self.pool_bytes(offset, length)
    }

    /// Bytes of the pool.
    pub(crate) fn pool_bytes(&self, offset: u32, length: u32) -> Result<&[u8], FormatError> {
        let pool = self.section(SectionId::Names)?;
        let start = offset as usize;
        start
            .checked_add(length as usize)
            .and_then(|end| pool.get(start..end))
            .ok_or(FormatError::OutOfRange {
                what: "pool offset",
                value: u64::from(offset) + u64::from(length),
                limit: pool.len() as u64,
            })
    }

    /// Where a regular file's bytes are in its layer's stream, in the file's order. What no
    /// extent covers is zeros. An empty file has none, an ordinary one has one.
    ///
    /// # Errors
    /// An inode that is no regular file, or a damaged record.
    pub fn extents(&self, inode: InodeNumber) -> Result<Vec<Extent>, FormatError> {
        let record = self.inode_record(inode)?;
        if record.kind != FileKind::Regular.number() {
            return Err(FormatError::NotRegular(inode.0));
        }
        if record.flags & FLAG_SPARSE == 0 {
            let whole = Extent {
                file_offset: FileOffset(0),
                stream_offset: StreamOffset(record.place.get()),
                length: record.size.get(),
            };
            return Ok(if whole.length == 0 {
                Vec::new()
            } else {
                vec![whole]
            });
        }
        let records = self.extent_records(record)?;
        Ok(records
            .iter()
            .map(|record| Extent {
                file_offset: FileOffset(record.file_offset.get()),
                stream_offset: StreamOffset(record.stream_offset.get()),
                length: record.length.get(),
            })
            .collect())
    }

    /// The extent records of a sparse file.
    pub(crate) fn extent_records(
        &self,
        record: &InodeRecord,
    ) -> Result<&[ExtentRecord], FormatError> {
        let (first, count) = range_of(record.place);
        range(self.records(SectionId::Extents)?, first, count, "extent")
    }

    /// The inode at `path`, without following symlinks; the empty path is the root. Components
    /// are separated by one `/` or more, a leading one is ignored, `.` and `..` are names
    /// like any other and so are never found.
    ///
    /// # Errors
    /// Damaged records.
    pub fn resolve(&self, path: &[u8]) -> Result<Option<InodeNumber>, FormatError> {
        let mut at = InodeNumber::ROOT;
        for name in path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
        {
            if self.inode_record(at)?.kind != FileKind::Directory.number() {
                return Ok(None);
            }
            match self.lookup(at, name)? {
                Some(inode) => at = inode,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The digest of leaf `leaf`, which covers the stream from `leaf * LEAF_SIZE` on.
    ///
    /// # Errors
    /// A leaf that the stream does not have.
    pub fn leaf_digest(&self, leaf: u64) -> Result<Digest, FormatError> {
        let leaves = self.records::<DigestRecord>(SectionId::Leaves)?;
        usize::try_from(leaf)
            .ok()
            .and_then(|leaf| leaves.get(leaf))
            .map(|record| Digest::from_bytes(record.digest))
            .ok_or(FormatError::OutOfRange {
                what: "leaf",
                value: leaf,
                limit: leaves.len() as u64,
            })
    }

    /// The digest of a regular file's content, where the builder recorded it and the cold
    /// section is here.
    pub fn content_digest(&self, inode: InodeNumber) -> Option<Digest> {
        let records = self
            .records::<ContentDigestRecord>(SectionId::ContentDigests)
            .ok()?;
        let position = records
            .binary_search_by_key(&inode.0, |record| record.inode.get())
            .ok()?;
        Some(Digest::from_bytes(records[position].digest))
    }

    /// The layers of a merged index, bottom first; none in a layer's index.
    ///
    /// # Errors
    /// A damaged record.
    pub fn layers(&self) -> Result<Vec<MergedLayer>, FormatError> {
        self.records::<LayerRecord>(SectionId::Layers)?
            .iter()
            .zip(0..)
            .map(|(record, number)| {
                Ok(MergedLayer {
                    layer_digest: Digest::from_bytes(record.layer_digest),
                    diff_id: Digest::from_bytes(record.diff_id),
                    index_digest: Digest::from_bytes(record.index_digest),
                    compressed_size: record.compressed_size.get(),
                    stream_size: record.stream_size.get(),
                    compression: Compression::from_number(record.compression).ok_or(
                        FormatError::Record {
                            section: SectionId::Layers,
                            record: number,
                            problem: "unknown compression",
                        },
                    )?,
                })
            })
            .collect()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Index")
            .field("digest", &self.digest())
            .field("kind", &self.kind())
            .field("inodes", &self.inode_count())
            .finish_non_exhaustive()
    }
}

/// `count` records from `first` on, where the section has them.
pub(crate) fn range<'a, T>(
    records: &'a [T],
    first: u32,
    count: u32,
    what: &'static str,
) -> Result<&'a [T], FormatError> {
    (first as usize)
        .checked_add(count as usize)
        .and_then(|end| records.get(first as usize..end))
        .ok_or(FormatError::OutOfRange {
            what,
            value: u64::from(first) + u64::from(count),
            limit: records.len() as u64,
        })
}

/// Refuses sections that are no whole number of records, or larger than their limit.
fn check_record_sizes(header: &Header) -> Result<(), FormatError> {
    use crate::limit as max;
    let whole = |section: SectionId, size: usize, limit: u64, what: &'static str| {
        let length = header.section(section).length;
        if !length.is_multiple_of(size as u64) {
            let problem = "is not a whole number of records";
            return Err(FormatError::Section {
                section: section.number(),
                problem,
            });
        }
        let value = length / size as u64;
        if value > limit {
            return Err(FormatError::Limit { what, value, limit });
        }
        Ok(())
    };
    whole(
        SectionId::Inodes,
        size_of::<InodeRecord>(),
        max::MAX_INODES.into(),
        "inodes",
    )?;
    whole(
        SectionId::Entries,
        size_of::<EntryRecord>(),
        max::MAX_ENTRIES.into(),
        "entries",
    )?;
    whole(SectionId::Names, 1, max::MAX_POOL_SIZE, "bytes of names")?;
    whole(
        SectionId::XattrSets,
        size_of::<XattrSetRecord>(),
        max::MAX_INODES.into(),
        "xattr sets",
    )?;
    whole(
        SectionId::Xattrs,
        size_of::<XattrRecord>(),
        max::MAX_ENTRIES.into(),
        "xattrs",
    )?;
    whole(
        SectionId::Extents,
        size_of::<ExtentRecord>(),
        max::MAX_EXTENTS.into(),
        "extents",
    )?;
    whole(
        SectionId::Chunks,
        size_of::<ChunkRecord>(),
        max::MAX_CHUNKS + 1,
        "chunk records",
    )?;
    whole(
        SectionId::Leaves,
        size_of::<DigestRecord>(),
        max::MAX_CHUNKS,
        "leaves",
    )?;
    whole(
        SectionId::Layers,
        size_of::<LayerRecord>(),
        max::MAX_LAYERS as u64,
        "layers",
    )?;
    let digests = size_of::<ContentDigestRecord>();
    whole(
        SectionId::ContentDigests,
        digests,
        max::MAX_INODES.into(),
        "content digests",
    )
}
