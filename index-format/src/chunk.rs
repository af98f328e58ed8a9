//! The chunk table: which compressed bytes yield which part of a layer's stream.

use crate::error::FormatError;
use crate::index::Index;
use crate::offset::{CompressedOffset, StreamOffset};
use crate::record::ChunkRecord;
use crate::section::SectionId;
use std::ops::{BitOr, Range};

/// Facts about a chunk that its decoder needs before it has any bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChunkFlags(pub u32);

impl ChunkFlags {
    /// The chunk starts where a gzip member, a zstd frame or a plain stream does: it needs no
    /// history, and its checkpoint is empty.
    pub const FREE: ChunkFlags = ChunkFlags(1 << 0);
    /// The stream bytes right before the chunk can stand in for the whole checkpoint.
    pub const WINDOW_SUFFICES: ChunkFlags = ChunkFlags(1 << 1);
    /// The bits that belong to the layer's codec; the format keeps them as they are.
    pub const CODEC_BITS: ChunkFlags = ChunkFlags(0xffff_0000);

    /// Every bit that may be set.
    pub(crate) const ALLOWED: u32 =
        ChunkFlags::FREE.0 | ChunkFlags::WINDOW_SUFFICES.0 | ChunkFlags::CODEC_BITS.0;

    /// Whether all bits of `flags` are set.
    pub const fn contains(self, flags: ChunkFlags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for ChunkFlags {
    type Output = ChunkFlags;

    fn bitor(self, other: ChunkFlags) -> ChunkFlags {
        ChunkFlags(self.0 | other.0)
    }
}

/// A chunk, as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number, counted from 0.
    pub number: u32,
    /// The part of the stream that it yields.
    pub stream: Range<u64>,
    /// The bytes of the blob to fetch for it. With gzip the last byte may be shared with the
    /// next chunk.
    pub compressed: Range<u64>,
    /// Bits of the first byte that belong to the chunk before: 0 to 7.
    pub bit: u8,
    /// Facts for the decoder.
    pub flags: ChunkFlags,
    /// Where its checkpoint lies in the checkpoint section; may be empty.
    pub checkpoint: Range<u64>,
}

/// A chunk, as a builder hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChunk {
    /// Where it starts in the stream. The first chunk starts at 0, each one ends where the
    /// next starts, the last one with the stream.
    pub stream_start: StreamOffset,
    /// The byte of the blob that holds its first bit.
    pub compressed_start: CompressedOffset,
    /// Where its bytes end. `None`: where the next chunk starts (the shared byte included), or
    /// with the blob.
    pub compressed_end: Option<CompressedOffset>,
    /// Bits of the first byte that belong to the chunk before: 0 to 7.
    pub bit: u8,
    /// Facts for the decoder.
    pub flags: ChunkFlags,
    /// The encoded checkpoint; opaque to the format.
    pub checkpoint: Vec<u8>,
}

impl Index {
    /// How many chunks the layer has; 0 in a merged index.
    pub fn chunk_count(&self) -> u32 {
        // open() has bounded the section by MAX_CHUNKS, and one record is the sentinel.
        let records = self.section_length(SectionId::Chunks) / size_of::<ChunkRecord>() as u64;
        records.saturating_sub(1) as u32
    }

    /// A chunk by its number.
    ///
    /// # Errors
    /// A number that the index does not have.
    pub fn chunk(&self, number: u32) -> Result<Chunk, FormatError> {
        let records = self.records::<ChunkRecord>(SectionId::Chunks)?;
        let position = number as usize;
        let (Some(record), Some(next)) = (records.get(position), records.get(position + 1)) else {
            return Err(FormatError::OutOfRange {
                what: "chunk",
                value: number.into(),
                limit: self.chunk_count().into(),
            });
        };
        Ok(Chunk {
            number,
            stream: record.stream_start.get()..next.stream_start.get(),
            compressed: record.compressed_start.get()..record.compressed_end.get(),
            bit: record.bit,
            flags: ChunkFlags(record.flags.get()),
            checkpoint: record.checkpoint_start.get()..next.checkpoint_start.get(),
        })
    }

    /// The number of the chunk that yields the stream byte at `offset`.
    ///
    /// # Errors
    /// An offset at or past the end of the stream.
    pub fn chunk_containing(&self, offset: StreamOffset) -> Result<u32, FormatError> {
        let records = self.records::<ChunkRecord>(SectionId::Chunks)?;
        let after = records.partition_point(|record| record.stream_start.get() <= offset.0);
        if after == 0 || after == records.len() {
            return Err(FormatError::OutOfRange {
                what: "stream offset",
                value: offset.0,
                limit: self.stream_size(),
            });
        }
        Ok((after - 1) as u32)
    }

    /// The encoded checkpoint of a chunk, where the checkpoint section is here.
    ///
    /// # Errors
    /// [`FormatError::SectionAbsent`], or a damaged record.
    pub fn checkpoint(&self, chunk: &Chunk) -> Result<&[u8], FormatError> {
        checkpoint_in(self.section(SectionId::Checkpoints)?, chunk)
    }
}

/// The encoded checkpoint of `chunk` within the bytes of a checkpoint section that was fetched
/// on its own.
///
/// # Errors
/// A chunk whose checkpoint is not within `section`.
pub fn checkpoint_in<'a>(section: &'a [u8], chunk: &Chunk) -> Result<&'a [u8], FormatError> {
    let range = usize::try_from(chunk.checkpoint.start)
        .ok()
        .zip(usize::try_from(chunk.checkpoint.end).ok());
    range
        .and_then(|(start, end)| section.get(start..end))
        .ok_or(FormatError::OutOfRange {
            what: "checkpoint end",
            value: chunk.checkpoint.end,
            limit: section.len() as u64,
        })
}
