//! Rules of the chunk table, the leaves and the cold sections.

use crate::LEAF_SIZE;
use crate::chunk::ChunkFlags;
use crate::error::FormatError;
use crate::header::IndexKind;
use crate::index::Index;
use crate::inode::FileKind;
use crate::limit::MAX_STREAM_SIZE;
use crate::record::{ChunkRecord, ContentDigestRecord, DigestRecord, InodeRecord};
use crate::section::SectionId;

impl Index {
    /// Chunks cover the stream in order, and every leaf of it has a digest.
    pub(crate) fn check_chunks(&self) -> Result<(), FormatError> {
        if self.kind() == IndexKind::Merged {
            return Ok(());
        }
        let (value, limit) = (self.stream_size(), MAX_STREAM_SIZE);
        if value > limit {
            return Err(FormatError::Limit {
                what: "bytes of the stream",
                value,
                limit,
            });
        }
        let leaves = self.records::<DigestRecord>(SectionId::Leaves)?.len() as u64;
        if leaves != self.stream_size().div_ceil(LEAF_SIZE) {
            let section = SectionId::Leaves.number();
            let problem = "does not have one digest for every leaf of the stream";
            return Err(FormatError::Section { section, problem });
        }
        let records = self.records::<ChunkRecord>(SectionId::Chunks)?;
        let Some((sentinel, chunks)) = records.split_last() else {
            let section = SectionId::Chunks.number();
            return Err(FormatError::Section {
                section,
                problem: "has no sentinel",
            });
        };
        // chunk_count() fits 32 bits, and so does the sentinel's number.
        let wrong = |chunk: usize, problem| FormatError::Chunk {
            chunk: chunk as u32,
            problem,
        };
        self.check_sentinel(sentinel)
            .map_err(|problem| wrong(chunks.len(), problem))?;
        let first = records.first().unwrap_or(sentinel);
        if first.stream_start.get() != 0 || first.checkpoint_start.get() != 0 {
            return Err(wrong(0, "the first chunk must start with the stream"));
        }
        for (number, pair) in records.windows(2).enumerate() {
            self.check_chunk(&pair[0], &pair[1], number + 1 == chunks.len())
                .map_err(|problem| wrong(number, problem))?;
        }
        Ok(())
    }

    fn check_sentinel(&self, sentinel: &ChunkRecord) -> Result<(), &'static str> {
        let blob = self.compressed_size();
        if sentinel.stream_start.get() != self.stream_size() {
            return Err("the sentinel must start at the end of the stream");
        }
        if sentinel.compressed_start.get() != blob || sentinel.compressed_end.get() != blob {
            return Err("the sentinel must start at the end of the blob");
        }
        if sentinel.checkpoint_start.get() != self.section_length(SectionId::Checkpoints) {
            return Err("the sentinel must start at the end of the checkpoints");
        }
        if sentinel.flags.get() != 0 || sentinel.bit != 0 || sentinel.reserved != [0; 3] {
            return Err("the sentinel has nothing but ends");
        }
        Ok(())
    }

    fn check_chunk(
        &self,
        chunk: &ChunkRecord,
        next: &ChunkRecord,
        is_last: bool,
    ) -> Result<(), &'static str> {
        if chunk.stream_start.get() >= next.stream_start.get() {
            return Err("is empty, or chunks are out of the stream's order");
        }
        let compressed = chunk.compressed_start.get()..chunk.compressed_end.get();
        if compressed.is_empty() || compressed.end > self.compressed_size() {
            return Err("its compressed bytes are none, or end past the blob");
        }
        if !is_last && compressed.start > next.compressed_start.get() {
            return Err("chunks are out of the blob's order");
        }
        if chunk.checkpoint_start.get() > next.checkpoint_start.get() {
            return Err("checkpoints are out of order");
        }
        if chunk.bit > 7 {
            return Err("a byte has eight bits");
        }
        if chunk.flags.get() & !ChunkFlags::ALLOWED != 0 || chunk.reserved != [0; 3] {
            return Err("unknown flags or reserved bytes are set");
        }
        Ok(())
    }

    /// Content digests are those of regular files, in order; the other cold sections are
    /// opaque here.
    pub(crate) fn check_cold(&self) -> Result<(), FormatError> {
        if !self.has_section(SectionId::ContentDigests) {
            return Ok(());
        }
        let inodes = self.records::<InodeRecord>(SectionId::Inodes)?;
        let mut previous = 0;
        for (record, position) in self
            .records::<ContentDigestRecord>(SectionId::ContentDigests)?
            .iter()
            .zip(0..)
        {
            let wrong = |problem| {
                let section = SectionId::ContentDigests;
                Err(FormatError::Record {
                    section,
                    record: position,
                    problem,
                })
            };
            let number = record.inode.get();
            if number <= previous || record.reserved.get() != 0 {
                return wrong("inodes are not in ascending order, or reserved bytes are set");
            }
            previous = number;
            let inode = inodes.get(number as usize - 1);
            if inode.is_none_or(|inode| inode.kind != FileKind::Regular.number()) {
                return wrong("is not of a regular file");
            }
        }
        Ok(())
    }
}
