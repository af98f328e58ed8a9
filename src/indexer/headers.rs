//! The *headers* section: every byte of the stream that is no file's data, so that a layer can
//! be completed, and its diff ID checked, from file contents alone.
//!
//! The section is one zstd frame. Inside are records, each
//!
//! ```text
//! framing length   u32, little-endian, at most 64 KiB
//! payload length   u64, little-endian
//! framing          that many bytes
//! ```
//!
//! and the stream is: the framing of the first record, then as many bytes of file data as its
//! payload length says, then the next record's. Where a payload's bytes come from is told by their
//! offset in the stream: the extents of the index's inodes cover them. One kind is not covered:
//! the data of a file that a later entry of the same layer replaced is no inode's, and to complete
//! the layer it has to be fetched from the layer itself.

use std::io::{self, Read, Write};

/// The longest framing of one record, in bytes: what reading buffers.
const MAX_FRAMING: usize = 64 << 10;

/// Lengths in front of a record's framing.
const RECORD_HEADER: usize = 4 + 8;

/// Largest headers section that is kept, in bytes. A million ordinary headers compress to some
/// 17 MB; a layer whose headers do not compress is not worth more memory, and does without.
pub const MAX_HEADERS: usize = 64 << 20;

/// zstd's level: higher ones gain little on headers and would slow the indexing down.
const LEVEL: i32 = 3;

/// Writes the section while the stream passes.
pub struct HeadersWriter {
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    framing: Vec<u8>,
    payload: u64,
    limit: usize,
    exceeded: bool,
}

impl HeadersWriter {
    /// A writer that gives up above `limit` bytes of compressed section.
    ///
    /// # Errors
    /// When zstd has no memory for its context.
    pub fn new(limit: usize) -> io::Result<Self> {
        let encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
        Ok(Self {
            encoder,
            framing: Vec::new(),
            payload: 0,
            limit,
            exceeded: false,
        })
    }

    /// The next bytes of the stream, when they are no file's data.
    ///
    /// # Errors
    /// When zstd fails, which it does for want of memory only.
    pub fn framing(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.payload > 0 {
            self.record()?;
        }
        while !bytes.is_empty() {
            let room = (MAX_FRAMING - self.framing.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.framing.extend_from_slice(now);
            bytes = later;
            if self.framing.len() == MAX_FRAMING {
                self.record()?;
            }
        }
        Ok(())
    }

    /// The next `length` bytes of the stream are a file's data.
    pub fn payload(&mut self, length: u64) {
        self.payload += length;
    }

    fn record(&mut self) -> io::Result<()> {
        if !self.exceeded {
            let length = u32::try_from(self.framing.len()).expect("at most MAX_FRAMING");
            self.encoder.write_all(&length.to_le_bytes())?;
            self.encoder.write_all(&self.payload.to_le_bytes())?;
            self.encoder.write_all(&self.framing)?;
            if self.encoder.get_ref().len() > self.limit {
                self.exceeded = true;
                *self.encoder.get_mut() = Vec::new();
            }
        }
        self.framing.clear();
        self.payload = 0;
        Ok(())
    }

    /// The whole section, or `None` when it would exceed the limit.
    ///
    /// # Errors
    /// As [`framing`](Self::framing).
    pub fn finish(mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.framing.is_empty() || self.payload > 0 {
            self.record()?;
        }
        if self.exceeded {
            return Ok(None);
        }
        let section = self.encoder.finish()?;
        Ok(Some(section).filter(|section| section.len() <= self.limit))
    }
}

/// Why a stream could not be put together again.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The section is not zstd, is cut off, or breaks a limit.
    #[error("the headers section is malformed: {0}")]
    Section(#[source] io::Error),
    /// The section does not describe a stream of this size.
    #[error("the headers section does not describe a stream of {stream_size} bytes")]
    Size {
        /// The size that the index gives.
        stream_size: u64,
    },
    /// File data could not be read, or the result could not be written.
    #[error("the stream could not be put together: {0}")]
    Io(#[source] io::Error),
}

/// Puts a stream of `stream_size` bytes together again from its headers section. `read_payload`
/// fills a buffer with the file data that stands at an offset of the stream.
///
/// # Errors
/// When the section is malformed or describes a stream of another size, and what `read_payload`
/// and `out` fail with. The digest of the result is the caller's to check.
pub fn rebuild(
    section: &[u8],
    stream_size: u64,
    mut read_payload: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    out: &mut impl Write,
) -> Result<(), RebuildError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(section)
        .map_err(RebuildError::Section)?
        .single_frame();
    let mut buffer = vec![0; MAX_FRAMING];
    let mut left = stream_size;
    let wrong_size = || RebuildError::Size { stream_size };
    while let Some((framing, payload)) = record_header(&mut decoder)? {
        let framing = buffer.get_mut(..framing).ok_or_else(|| {
            RebuildError::Section(io::Error::other("a record is longer than the limit"))
        })?;
        left = left
            .checked_sub(framing.len() as u64)
            .ok_or_else(wrong_size)?;
        decoder.read_exact(framing).map_err(RebuildError::Section)?;
        out.write_all(framing).map_err(RebuildError::Io)?;
        let after = left.checked_sub(payload).ok_or_else(wrong_size)?;
        while left > after {
            let length = usize::try_from(left - after)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let piece = &mut buffer[..length];
            read_payload(stream_size - left, piece).map_err(RebuildError::Io)?;
            out.write_all(piece).map_err(RebuildError::Io)?;
            left -= length as u64;
        }
    }
    if left == 0 { Ok(()) } else { Err(wrong_size()) }
}

/// The lengths of the next record; `None` at the end of the section.
fn record_header(decoder: &mut impl Read) -> Result<Option<(usize, u64)>, RebuildError> {
    let mut header = Vec::with_capacity(RECORD_HEADER);
    decoder
        .take(RECORD_HEADER as u64)
        .read_to_end(&mut header)
        .map_err(RebuildError::Section)?;
    if header.is_empty() {
        return Ok(None);
    }
    let (Some((framing, rest)), true) = (header.split_first_chunk(), header.len() == RECORD_HEADER)
    else {
        return Err(RebuildError::Section(io::ErrorKind::UnexpectedEof.into()));
    };
    let framing = usize::try_from(u32::from_le_bytes(*framing)).unwrap_or(usize::MAX);
    let payload = u64::from_le_bytes(rest.try_into().expect("8 of 12 bytes are left"));
    Ok(Some((framing, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream whose payload is marked by bytes from 128 on.
    fn write(stream: &[u8], limit: usize) -> Option<Vec<u8>> {
        let mut writer = HeadersWriter::new(limit).unwrap();
        for run in stream.chunk_by(|a, b| (*a < 128) == (*b < 128)) {
            if run[0] < 128 {
                writer.framing(run).unwrap();
            } else {
                writer.payload(run.len() as u64);
            }
        }
        writer.finish().unwrap()
    }

    fn read(section: &[u8], stream: &[u8]) -> Result<Vec<u8>, RebuildError> {
        let mut out = Vec::new();
        let read_payload = |offset: u64, buffer: &mut [u8]| {
            let start = usize::try_from(offset).unwrap();
            buffer.copy_from_slice(&stream[start..start + buffer.len()]);
            assert!(buffer.iter().all(|byte| *byte >= 128), "asked for framing");
            Ok(())
        };
        rebuild(section, stream.len() as u64, read_payload, &mut out).map(|()| out)
    }

    fn streams() -> Vec<Vec<u8>> {
        let long = [
            vec![1; 200_000],
            vec![200; 300_000],
            vec![2; MAX_FRAMING],
            vec![130],
        ]
        .concat();
        vec![
            vec![],
            vec![1],
            vec![200],
            vec![200, 1, 2, 3, 201, 202, 1],
            long,
        ]
    }

    #[test]
    fn round_trips() {
        for stream in streams() {
            let section = write(&stream, MAX_HEADERS).unwrap();
            assert_eq!(read(&section, &stream).unwrap(), stream);
        }
    }

    #[test]
    fn other_sizes_and_broken_sections_are_refused() {
        for stream in streams().into_iter().skip(1) {
            let section = write(&stream, MAX_HEADERS).unwrap();
            let longer = [&stream[..], &[200]].concat();
            assert!(matches!(
                read(&section, &longer),
                Err(RebuildError::Size { .. })
            ));
            let shorter = &stream[..stream.len() - 1];
            assert!(matches!(
                read(&section, shorter),
                Err(RebuildError::Size { .. })
            ));
            let cut = &section[..section.len() - 1];
            assert!(matches!(read(cut, &stream), Err(RebuildError::Section(_))));
        }
    }

    #[test]
    fn long_records_are_refused() {
        let record = [&70_000_u32.to_le_bytes()[..], &[0; 8], &[1; 70_000]].concat();
        let section = zstd::encode_all(&record[..], 1).unwrap();
        assert!(matches!(
            read(&section, &[1; 70_000]),
            Err(RebuildError::Section(_))
        ));
    }

    #[test]
    fn gives_up_above_its_limit() {
        let noise: Vec<u8> = (0..2_000_000_u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as u8)
            .collect();
        assert_eq!(write(&noise, 1000), None);
        assert!(write(&noise, MAX_HEADERS).is_some());
    }
}
