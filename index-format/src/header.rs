//! The header: everything `open` looks at, and the bytes whose digest is an index's identity.

use crate::digest::Digest;
use crate::error::FormatError;
use crate::limit::MAX_SECTIONS;
use crate::record::{HeaderRecord, SectionRecord};
use crate::section::{FIRST_COLD, SectionId};
use std::fmt;
use zerocopy::FromBytes;

/// The first bytes of every index.
pub const MAGIC: [u8; 8] = *b"BRISKIDX";
/// The major version: readers refuse any other.
pub const MAJOR_VERSION: u16 = 1;
/// The minor version: what a reader of the same major version may ignore.
pub const MINOR_VERSION: u16 = 0;
/// Every section starts at a multiple of this.
pub const ALIGNMENT: u64 = 8;

/// Where the magic is.
pub const MAGIC_OFFSET: usize = 0;
/// Where the major version is.
pub const MAJOR_OFFSET: usize = MAGIC_OFFSET + 8;
/// Where the minor version is.
pub const MINOR_OFFSET: usize = MAJOR_OFFSET + 2;
/// Where the length of the header, section table included, is.
pub const HEADER_LENGTH_OFFSET: usize = MINOR_OFFSET + 2;
/// Where the feature bits are that a reader must know.
pub const REQUIRED_FEATURES_OFFSET: usize = HEADER_LENGTH_OFFSET + 4;
/// Where the feature bits are that a reader may ignore.
pub const OPTIONAL_FEATURES_OFFSET: usize = REQUIRED_FEATURES_OFFSET + 8;
/// Where the kind of the index is.
pub const KIND_OFFSET: usize = OPTIONAL_FEATURES_OFFSET + 8;
/// Where the layer's compression is.
pub const COMPRESSION_OFFSET: usize = KIND_OFFSET + 1;
/// Where the layer digest is, after 6 reserved bytes.
pub const LAYER_DIGEST_OFFSET: usize = COMPRESSION_OFFSET + 1 + 6;
/// Where the diff ID is.
pub const DIFF_ID_OFFSET: usize = LAYER_DIGEST_OFFSET + 32;
/// Where the size of the compressed blob is.
pub const COMPRESSED_SIZE_OFFSET: usize = DIFF_ID_OFFSET + 32;
/// Where the size of the uncompressed stream is.
pub const STREAM_SIZE_OFFSET: usize = COMPRESSED_SIZE_OFFSET + 8;
/// Where the number of rows of the section table is.
pub const SECTION_COUNT_OFFSET: usize = STREAM_SIZE_OFFSET + 8;
/// Where the section table starts, after 4 reserved bytes.
pub const SECTION_TABLE_OFFSET: usize = SECTION_COUNT_OFFSET + 4 + 4;
/// Bytes of a row of the section table.
pub const SECTION_ROW_SIZE: usize = size_of::<SectionRecord>();

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(HeaderRecord, magic) == MAGIC_OFFSET);
    assert!(offset_of!(HeaderRecord, major) == MAJOR_OFFSET);
    assert!(offset_of!(HeaderRecord, minor) == MINOR_OFFSET);
    assert!(offset_of!(HeaderRecord, header_length) == HEADER_LENGTH_OFFSET);
    assert!(offset_of!(HeaderRecord, required_features) == REQUIRED_FEATURES_OFFSET);
    assert!(offset_of!(HeaderRecord, optional_features) == OPTIONAL_FEATURES_OFFSET);
    assert!(offset_of!(HeaderRecord, kind) == KIND_OFFSET);
    assert!(offset_of!(HeaderRecord, compression) == COMPRESSION_OFFSET);
    assert!(offset_of!(HeaderRecord, layer_digest) == LAYER_DIGEST_OFFSET);
    assert!(offset_of!(HeaderRecord, diff_id) == DIFF_ID_OFFSET);
    assert!(offset_of!(HeaderRecord, compressed_size) == COMPRESSED_SIZE_OFFSET);
    assert!(offset_of!(HeaderRecord, stream_size) == STREAM_SIZE_OFFSET);
    assert!(offset_of!(HeaderRecord, section_count) == SECTION_COUNT_OFFSET);
    assert!(size_of::<HeaderRecord>() == SECTION_TABLE_OFFSET);
};

/// What an index describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexKind {
    /// One layer, with whiteouts kept as markers.
    Layer,
    /// The union of an image's layers.
    Merged,
}

/// How a layer's blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The blob is the stream.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
}

impl Compression {
    /// The number that the header holds.
    pub const fn number(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Zstd => 2,
        }
    }

    /// The compression with this number.
    pub const fn from_number(number: u8) -> Option<Compression> {
        Some(match number {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Zstd,
            _ => return None,
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        })
    }
}

/// Feature bits. A reader that does not know a *required* bit refuses the index; it ignores
/// *optional* bits that it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// Bits that change what the index means.
    pub required: u64,
    /// Bits that only add something.
    pub optional: u64,
}

impl Features {
    /// Required: the stream is the content stream of a table of contents (file contents in the
    /// table's order), not the tar.
    pub const LAYOUT_TOC: u64 = 1 << 0;
    /// All required bits that this version knows.
    pub const KNOWN_REQUIRED: u64 = Features::LAYOUT_TOC;

    /// Optional: the layer is *stream-only*: some chunk is longer than any reader decodes at once.
    pub const STREAM_ONLY_LONG_CHUNK: u64 = 1 << 0;
    /// Optional: the layer is stream-only: its compressor's window is too large for checkpoints.
    pub const STREAM_ONLY_LARGE_WINDOW: u64 = 1 << 1;
    /// Optional: the layer is stream-only: no checkpoint could be made of some blocks.
    pub const STREAM_ONLY_UNKNOWN_BLOCKS: u64 = 1 << 2;

    /// Why single chunks of the layer cannot be asked for, in words; `None` where they can.
    pub const fn stream_only(self) -> Option<&'static str> {
        if self.optional & Features::STREAM_ONLY_LONG_CHUNK != 0 {
            Some("its compressor left no place to start for too long")
        } else if self.optional & Features::STREAM_ONLY_LARGE_WINDOW != 0 {
            Some("its compressor's window is too large for checkpoints")
        } else if self.optional & Features::STREAM_ONLY_UNKNOWN_BLOCKS != 0 {
            Some("it has blocks that no checkpoint can be made for")
        } else {
            None
        }
    }

    /// Whether the stream is a content stream and not a tar.
    pub const fn is_toc_layout(self) -> bool {
        self.required & Features::LAYOUT_TOC != 0
    }
}

/// A row of the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRow {
    /// Where the section starts in the complete file.
    pub offset: u64,
    /// Its bytes, without the zeros up to the next multiple of [`ALIGNMENT`].
    pub length: u64,
    /// The digest of those bytes.
    pub digest: Digest,
}

impl SectionRow {
    /// Where the next section starts.
    pub(crate) fn padded_end(&self) -> Option<u64> {
        self.offset
            .checked_add(self.length)?
            .checked_next_multiple_of(ALIGNMENT)
    }
}

/// A header that has been read and whose section table is consistent in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The minor version of the writer.
    pub minor: u16,
    /// Feature bits.
    pub features: Features,
    /// What the index describes.
    pub kind: IndexKind,
    /// The layer blob's compression; `None` in a merged index.
    pub compression: Compression,
    /// The layer blob's digest; zeros in a merged index.
    pub layer_digest: Digest,
    /// The digest of the layer's tar; zeros in a merged index.
    pub diff_id: Digest,
    /// Bytes of the layer's blob; 0 in a merged index.
    pub compressed_size: u64,
    /// Bytes of the layer's stream; 0 in a merged index.
    pub stream_size: u64,
    /// Bytes of the header, section table included.
    pub length: u64,
    /// Bytes of the file up to the end of the last hot section and its padding.
    pub hot_size: u64,
    /// Bytes of the complete file.
    pub file_size: u64,
    /// The digest of the header: the identity of the index.
    pub digest: Digest,
    /// Every row of the table in file order, unknown sections included.
    pub(crate) rows: Vec<(u32, SectionRow)>,
    /// The rows of the known sections by [`SectionId::slot`].
    sections: [SectionRow; SectionId::ALL.len()],
}

impl Header {
    /// Reads the header at the start of `bytes`, which may end right after it.
    ///
    /// # Errors
    /// Bytes that are no header, another major version, unknown required features, or a
    /// section table that breaks the rules of FORMAT.md.
    pub fn parse(bytes: &[u8]) -> Result<Header, FormatError> {
        let (record, _) =
            HeaderRecord::ref_from_prefix(bytes).map_err(|_| match bytes.get(..MAGIC.len()) {
                Some(magic) if magic != MAGIC => FormatError::BadMagic,
                _ => truncated("the header", SECTION_TABLE_OFFSET as u64, bytes),
            })?;
        check_version(record)?;
        let count = record.section_count.get();
        let length = check_length(record, count)?;
        let header = bytes
            .get(..length)
            .ok_or_else(|| truncated("the section table", length as u64, bytes))?;
        let table =
            <[SectionRecord]>::ref_from_bytes(&header[SECTION_TABLE_OFFSET..]).map_err(|_| {
                FormatError::Header {
                    field: "header length",
                    value: length as u64,
                }
            })?;
        let rows = section_rows(table, length as u64)?;
        let kind = match record.kind {
            0 => IndexKind::Layer,
            1 => IndexKind::Merged,
            other => {
                return Err(FormatError::Header {
                    field: "kind",
                    value: other.into(),
                });
            }
        };
        let compression =
            Compression::from_number(record.compression).ok_or(FormatError::Header {
                field: "compression",
                value: record.compression.into(),
            })?;
        let end = |rows: &[(u32, SectionRow)]| {
            rows.last()
                .and_then(|(_, row)| row.padded_end())
                .unwrap_or(length as u64)
        };
        let hot_count = rows.partition_point(|(number, _)| *number < FIRST_COLD);
        Ok(Header {
            minor: record.minor.get(),
            features: Features {
                required: record.required_features.get(),
                optional: record.optional_features.get(),
            },
            kind,
            compression,
            layer_digest: Digest::from_bytes(record.layer_digest),
            diff_id: Digest::from_bytes(record.diff_id),
            compressed_size: record.compressed_size.get(),
            stream_size: record.stream_size.get(),
            length: length as u64,
            hot_size: end(&rows[..hot_count]),
            file_size: end(&rows),
            digest: Digest::of(header),
            sections: known_sections(&rows)?,
            rows,
        })
    }

    /// The row of a section.
    pub fn section(&self, section: SectionId) -> &SectionRow {
        &self.sections[section.slot()]
    }
}

/// Magic, major version, required features and reserved bytes.
fn check_version(record: &HeaderRecord) -> Result<(), FormatError> {
    if record.magic != MAGIC {
        return Err(FormatError::BadMagic);
    }
    let found = record.major.get();
    if found != MAJOR_VERSION {
        return Err(FormatError::UnsupportedVersion {
            found,
            supported: MAJOR_VERSION,
        });
    }
    let bits = record.required_features.get() & !Features::KNOWN_REQUIRED;
    if bits != 0 {
        return Err(FormatError::UnsupportedFeatures { bits });
    }
    if record.reserved != [0; 6] || record.reserved_tail.get() != 0 {
        return Err(FormatError::Header {
            field: "reserved bytes",
            value: 1,
        });
    }
    Ok(())
}

/// The header's length, which the number of sections determines.
fn check_length(record: &HeaderRecord, count: u32) -> Result<usize, FormatError> {
    if count > MAX_SECTIONS {
        return Err(FormatError::Header {
            field: "section count",
            value: count.into(),
        });
    }
    // At most 128 + 64 * 56: the limit above keeps this far from overflow.
    let length = SECTION_TABLE_OFFSET + count as usize * SECTION_ROW_SIZE;
    if record.header_length.get() as usize != length {
        let value = record.header_length.get().into();
        return Err(FormatError::Header {
            field: "header length",
            value,
        });
    }
    Ok(length)
}

/// The rows, each directly after the one before: so sections cannot overlap and no byte of
/// the file is unaccounted for.
fn section_rows(
    table: &[SectionRecord],
    header_length: u64,
) -> Result<Vec<(u32, SectionRow)>, FormatError> {
    let mut rows = Vec::with_capacity(table.len());
    let mut expected = header_length;
    let mut previous = 0;
    for record in table {
        let section = record.number.get();
        let wrong = |problem| FormatError::Section { section, problem };
        if section <= previous {
            return Err(wrong("the section table is not in ascending order"));
        }
        if record.reserved.get() != 0 {
            return Err(wrong("reserved bytes are set"));
        }
        let row = SectionRow {
            offset: record.offset.get(),
            length: record.length.get(),
            digest: Digest::from_bytes(record.digest),
        };
        if row.offset != expected {
            return Err(wrong("does not start where the section before it ends"));
        }
        expected = row.padded_end().ok_or_else(|| wrong("its end overflows"))?;
        previous = section;
        rows.push((section, row));
    }
    Ok(rows)
}

/// Picks the sections this version knows; it wants every one of them, empty or not.
fn known_sections(
    rows: &[(u32, SectionRow)],
) -> Result<[SectionRow; SectionId::ALL.len()], FormatError> {
    let mut known = [SectionRow {
        offset: 0,
        length: 0,
        digest: Digest::ZERO,
    }; SectionId::ALL.len()];
    for section in SectionId::ALL {
        let number = section.number();
        let position = rows
            .binary_search_by_key(&number, |(number, _)| *number)
            .map_err(|_| FormatError::Section {
                section: number,
                problem: "is missing",
            })?;
        known[section.slot()] = rows[position].1;
    }
    Ok(known)
}

/// The error for `bytes` that end before `needed`.
fn truncated(what: &'static str, needed: u64, bytes: &[u8]) -> FormatError {
    FormatError::Truncated {
        what,
        needed,
        available: bytes.len() as u64,
    }
}
