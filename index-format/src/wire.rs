//! The form of an index on the network. *Hot*: the header as it is, then every hot section as
//! its compressed length (64 bits, little-endian) and that many bytes of zstd; an empty
//! section has length 0 and no bytes. Sections of fixed records are turned into columns first
//! (FORMAT.md has the list). *Cold*: every cold section is a zstd frame of its own. So the hot
//! part is one range of a blob, and each cold section another.

mod transpose;

pub(crate) use crate::wire::transpose::stride;

use crate::digest::Digest;
use crate::error::FormatError;
use crate::header::{Header, SectionRow};
use crate::index::Index;
use crate::limit::Limits;
use crate::section::{FIRST_COLD, SectionId};
use zstd::bulk::{Compressor, Decompressor};

/// The zstd level of [`encode`]. The tree sections of a /usr of 133,000 files take 1.12 MB at this
/// level; 1.20 MB at level 3; 1.04 MB at level 19, for forty times the time.
pub const DEFAULT_LEVEL: i32 = 9;

/// An index in its network form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireIndex {
    /// Header and hot sections.
    pub hot: Vec<u8>,
    /// The cold sections that are not empty, in the file's order.
    pub cold: Vec<(SectionId, Vec<u8>)>,
}

/// The network form of a complete index, compressed at [`DEFAULT_LEVEL`].
///
/// # Errors
/// Bytes that are not a complete index.
pub fn encode(index_bytes: &[u8]) -> Result<WireIndex, FormatError> {
    encode_at_level(index_bytes, DEFAULT_LEVEL)
}

/// The network form of a complete index, compressed at a zstd level of the caller's choice.
///
/// # Errors
/// Bytes that are not a complete index.
pub fn encode_at_level(index_bytes: &[u8], level: i32) -> Result<WireIndex, FormatError> {
    let header = Header::parse(index_bytes)?;
    let available = index_bytes.len() as u64;
    if available != header.file_size {
        let needed = header.file_size;
        return Err(FormatError::Truncated {
            what: "the file",
            needed,
            available,
        });
    }
    let mut hot = index_bytes[..header.length as usize].to_vec();
    let mut cold = Vec::new();
    for (number, row) in &header.rows {
        // The rows follow each other up to file_size, which is what the slice holds.
        let section = &index_bytes[row.offset as usize..(row.offset + row.length) as usize];
        let frame =
            compress(*number, section, level).map_err(|error| compressed(*number, &error))?;
        if *number < FIRST_COLD {
            hot.extend_from_slice(&(frame.len() as u64).to_le_bytes());
            hot.extend_from_slice(&frame);
        } else if let Some(id) = SectionId::from_number(*number).filter(|_| !frame.is_empty()) {
            cold.push((id, frame));
        }
    }
    Ok(WireIndex { hot, cold })
}

/// The identity of the index whose hot part starts with `hot`: for checking against the
/// expected one before anything is decompressed.
///
/// # Errors
/// Bytes that do not start with a header of a known version.
pub fn identity(hot: &[u8]) -> Result<Digest, FormatError> {
    Header::parse(hot).map(|header| header.digest)
}

/// The hot part of an index file from its network form. Every section has been checked against
/// the header's digest; what the sections say is for [`Index::validate`].
///
/// # Errors
/// Bytes that are not a hot part, sizes beyond `limits`, or a section that differs from what
/// the header declares.
pub fn decode_hot(hot: &[u8], limits: &Limits) -> Result<Vec<u8>, FormatError> {
    let header = Header::parse(hot)?;
    if header.hot_size > limits.hot_size {
        let (value, limit) = (header.hot_size, limits.hot_size);
        return Err(FormatError::Limit {
            what: "bytes of the hot part",
            value,
            limit,
        });
    }
    let length = header.length as usize;
    let mut file = Vec::with_capacity(header.hot_size as usize);
    file.extend_from_slice(&hot[..length]);
    let mut rest = &hot[length..];
    for (number, row) in header
        .rows
        .iter()
        .filter(|(number, _)| *number < FIRST_COLD)
    {
        let frame = take_frame(&mut rest)?;
        file.extend_from_slice(&section_bytes(*number, row, frame)?);
        // Rows are contiguous: what is missing up to the next multiple of 8 is padding.
        file.resize(
            file.len()
                .next_multiple_of(crate::header::ALIGNMENT as usize),
            0,
        );
    }
    if !rest.is_empty() {
        let (needed, available) = ((hot.len() - rest.len()) as u64, hot.len() as u64);
        return Err(FormatError::Truncated {
            what: "the hot part",
            needed,
            available,
        });
    }
    Ok(file)
}

/// A cold section from its network form, checked against the digest in the header of `index`.
///
/// # Errors
/// A size beyond `limits`, or bytes that differ from what the header declares.
pub fn decode_cold(
    index: &Index,
    section: SectionId,
    frame: &[u8],
    limits: &Limits,
) -> Result<Vec<u8>, FormatError> {
    let row = index.header().section(section);
    if row.length > limits.cold_section_size {
        let (value, limit) = (row.length, limits.cold_section_size);
        return Err(FormatError::Limit {
            what: "bytes of a cold section",
            value,
            limit,
        });
    }
    section_bytes(section.number(), row, frame)
}

/// A complete index file from a hot part and all its cold sections.
///
/// # Errors
/// A cold section that is missing, or that the header does not describe.
pub fn complete(
    hot_file: &Index,
    mut cold: impl FnMut(SectionId) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, FormatError> {
    let header = hot_file.header();
    let mut file = hot_file
        .as_bytes()
        .get(..header.hot_size as usize)
        .ok_or(FormatError::Truncated {
            what: "the hot part",
            needed: header.hot_size,
            available: hot_file.as_bytes().len() as u64,
        })?
        .to_vec();
    for (number, row) in header
        .rows
        .iter()
        .filter(|(number, _)| *number >= FIRST_COLD)
    {
        if row.length == 0 {
            continue;
        }
        let section = SectionId::from_number(*number).ok_or(FormatError::Section {
            section: *number,
            problem: "is unknown, so the file cannot be completed",
        })?;
        let bytes = cold(section).ok_or(FormatError::SectionAbsent { section })?;
        hot_file.check_section(section, &bytes)?;
        file.extend_from_slice(&bytes);
        file.resize(
            file.len()
                .next_multiple_of(crate::header::ALIGNMENT as usize),
            0,
        );
    }
    Ok(file)
}

fn compress(number: u32, section: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    let mut compressor = Compressor::new(level)?;
    match stride(number) {
        _ if section.is_empty() => Ok(Vec::new()),
        1 => compressor.compress(section),
        stride => compressor.compress(&transpose::to_columns(section, stride)),
    }
}

/// The next length and frame of a hot part.
fn take_frame<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FormatError> {
    let cut = |needed: u64, available: usize| FormatError::Truncated {
        what: "a compressed section",
        needed,
        available: available as u64,
    };
    let (length, tail) = rest
        .split_first_chunk::<8>()
        .ok_or_else(|| cut(8, rest.len()))?;
    let length = u64::from_le_bytes(*length);
    let (frame, tail) = usize::try_from(length)
        .ok()
        .and_then(|length| tail.split_at_checked(length))
        .ok_or_else(|| cut(length, tail.len()))?;
    *rest = tail;
    Ok(frame)
}

/// Decompresses a section whose size a limit has allowed; never to more than the header declares.
fn section_bytes(number: u32, row: &SectionRow, frame: &[u8]) -> Result<Vec<u8>, FormatError> {
    let bytes = if row.length == 0 && frame.is_empty() {
        Vec::new()
    } else {
        Decompressor::new()
            .and_then(|mut decompressor| decompressor.decompress(frame, row.length as usize))
            .map_err(|error| compressed(number, &error))?
    };
    let bytes = match stride(number) {
        1 => bytes,
        stride => transpose::to_records(&bytes, stride),
    };
    let found = Digest::of(&bytes);
    if bytes.len() as u64 != row.length || found != row.digest {
        return Err(FormatError::SectionDigest {
            section: number,
            expected: row.digest,
            found,
        });
    }
    Ok(bytes)
}

fn compressed(section: u32, error: &std::io::Error) -> FormatError {
    FormatError::Compressed {
        section,
        problem: error.to_string(),
    }
}
