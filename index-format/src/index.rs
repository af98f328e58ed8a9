//! An index that has been opened: sections found, nothing parsed.

use crate::digest::Digest;
use crate::error::FormatError;
use crate::header::{Compression, Features, Header, IndexKind};
use crate::inode::{FileKind, InodeNumber};
use crate::record::{EntryRecord, InodeRecord};
use crate::section::{Records, SectionId};
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
    for section in SectionId::ALL {
        let length = header.section(section).length;
        let Records { size, limit, what } = section.records();
        if !length.is_multiple_of(size as u64) {
            let section = section.number();
            return Err(FormatError::Section {
                section,
                problem: "is not a whole number of records",
            });
        }
        let value = length / size as u64;
        if value > limit {
            return Err(FormatError::Limit { what, value, limit });
        }
    }
    Ok(())
}
