//! Streams that are not compressed: every byte is its own checkpoint.

use index_format::{ChunkFlags, CompressedOffset, StreamOffset};

use super::{ChunkSource, CodecError, Scan, ScanOptions, ScannedChunk, Scanner, Sink};

/// Counts the stream; its chunks follow from its length.
pub(super) struct PlainScanner {
    options: ScanOptions,
    size: u64,
}

impl PlainScanner {
    pub(super) fn new(options: ScanOptions) -> PlainScanner {
        PlainScanner { options, size: 0 }
    }
}

impl Scanner for PlainScanner {
    fn push(&mut self, compressed: &[u8], sink: Sink<'_>) -> Result<(), CodecError> {
        let limit = self.options.max_stream_size;
        self.size = (self.size.checked_add(compressed.len() as u64))
            .filter(|size| *size <= limit)
            .ok_or(CodecError::StreamTooLong { limit })?;
        if compressed.is_empty() {
            Ok(())
        } else {
            sink(compressed)
        }
    }

    fn finish(self: Box<Self>) -> Result<Scan, CodecError> {
        let (size, chunk_size) = (self.size, self.options.chunk_size);
        let chunks = (0..size.div_ceil(chunk_size))
            .map(|number| {
                let start = number * chunk_size;
                ScannedChunk {
                    stream_start: StreamOffset(start),
                    compressed_start: CompressedOffset(start),
                    compressed_end: CompressedOffset(size.min(start.saturating_add(chunk_size))),
                    bit: 0,
                    flags: ChunkFlags::FREE,
                    checkpoint: Vec::new(),
                }
            })
            .collect();
        Ok(Scan {
            chunks,
            compressed_size: size,
            stream_size: size,
            stream_only: None,
        })
    }
}

/// The bytes themselves, when there are exactly as many as declared.
pub(super) fn decode_chunk(chunk: &ChunkSource<'_>) -> Result<Vec<u8>, CodecError> {
    let (given, declared) = (chunk.compressed.len() as u64, chunk.stream_length);
    if given != declared {
        return Err(CodecError::ChunkLength {
            declared,
            more: given > declared,
        });
    }
    Ok(chunk.compressed.to_vec())
}
