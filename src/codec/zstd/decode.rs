//! One chunk of a zstd layer.

use zstd_safe::DCtx;
use zstd_safe::zstd_sys::ZSTD_ErrorCode;

use super::block::{self, BlockHeader};
use super::dictionary::{self, Head, MAX_HISTORY};
use super::frame::{self, Opening};
use crate::{ChunkSource, CodecError, History, history};
use index_format::{CompressedOffset, Compression};

/// Decodes exactly the declared length, through the ends of frames inside the chunk.
pub(crate) fn decode_chunk(
    chunk: &ChunkSource<'_>,
    history: History<'_>,
) -> Result<Vec<u8>, CodecError> {
    let declared = chunk.stream_length;
    let length = usize::try_from(declared).map_err(|_| CodecError::NoMemory)?;
    let decoder = DCtx::try_create().ok_or(CodecError::NoMemory)?;
    let (bytes, output, filled) = (chunk.compressed, vec![0; length], 0);
    let mut decoder = ChunkDecoder {
        bytes,
        position: 0,
        decoder,
        output,
        filled,
        declared,
    };
    let (record, window) = match history {
        History::Free => (None, None),
        History::Checkpoint(record) => (Some(record), None),
        History::Both { checkpoint, window } => (Some(checkpoint), Some(window)),
        History::Window(window) => {
            let given = window.len() as u64;
            return Err(CodecError::HistoryMissing {
                needed: given,
                given: 0,
            });
        }
    };
    if let Some(record) = record {
        decoder.continue_frame(record, window)?;
    }
    while decoder.position < bytes.len() {
        decoder.next_frame()?;
    }
    if decoder.filled < length {
        return Err(CodecError::ChunkLength {
            declared,
            more: false,
        });
    }
    Ok(decoder.output)
}

struct ChunkDecoder<'a> {
    bytes: &'a [u8],
    position: usize,
    decoder: DCtx<'static>,
    output: Vec<u8>,
    filled: usize,
    declared: u64,
}

impl<'a> ChunkDecoder<'a> {
    fn corrupt(&self, reason: impl Into<String>) -> CodecError {
        let offset = CompressedOffset(self.position as u64);
        CodecError::Corrupt {
            compression: Compression::Zstd,
            offset,
            reason: reason.into(),
        }
    }

    /// Decodes the rest of the frame in which the chunk starts.
    fn continue_frame(&mut self, record: &[u8], window: Option<&[u8]>) -> Result<(), CodecError> {
        let (head, sparse) = Head::parse(record)?;
        let mut dictionary = head.dictionary();
        match window {
            None => history::decode(sparse, MAX_HISTORY, &mut dictionary)
                .ok_or(dictionary::bad("damaged history"))?,
            Some(window) => {
                let needed = dictionary::history_length(record)?;
                let given = window.len() as u64;
                let start = given.checked_sub(needed);
                let start = start.ok_or(CodecError::HistoryMissing { needed, given })?;
                dictionary.extend_from_slice(&window[start as usize..]);
            }
        }
        let (blocks, is_ended) = self.take_blocks()?;
        self.decode_cut(head.window, blocks, is_ended, &dictionary)?;
        self.skip_checksum(is_ended && head.checksum)
    }

    /// Decodes the frame, or skips the skippable frame, that starts here.
    fn next_frame(&mut self) -> Result<(), CodecError> {
        let rest = &self.bytes[self.position..];
        let opening = rest
            .first_chunk()
            .map_or(Opening::Unknown, |start| frame::opening(*start));
        match opening {
            Opening::Skippable => {
                let header = rest
                    .first_chunk()
                    .ok_or_else(|| self.corrupt("a cut-off header"))?;
                let length = frame::SKIPPABLE_HEADER_LENGTH as u64
                    + u64::from(frame::skippable_length(*header));
                let length = usize::try_from(length)
                    .unwrap_or(usize::MAX)
                    .min(rest.len());
                self.position += length;
                Ok(())
            }
            Opening::Frame { header_length } => {
                let header = rest.get(..header_length).and_then(frame::parse);
                let header = header.ok_or_else(|| self.corrupt("a bad frame header"))?;
                self.position += header_length;
                let (blocks, is_ended) = self.take_blocks()?;
                self.decode_cut(header.window, blocks, is_ended, &[])?;
                self.skip_checksum(is_ended && header.checksum)
            }
            Opening::Unknown => Err(self.corrupt("no frame starts here")),
        }
    }

    /// Passes blocks up to the frame's last or the chunk's end; answers their bytes and
    /// whether the last was among them.
    fn take_blocks(&mut self) -> Result<(&'a [u8], bool), CodecError> {
        let start = self.position;
        let mut is_ended = false;
        while !is_ended && self.position < self.bytes.len() {
            let rest = &self.bytes[self.position..];
            let header = rest
                .first_chunk()
                .and_then(|bytes| BlockHeader::parse(*bytes));
            let header = header.ok_or_else(|| self.corrupt("a bad block header"))?;
            let length = block::HEADER_LENGTH + header.body_length();
            if rest.len() < length {
                return Err(self.corrupt("a block is cut off"));
            }
            self.position += length;
            is_ended = header.last;
        }
        Ok((&self.bytes[start..self.position], is_ended))
    }

    /// Decodes blocks cut out of a frame, as a frame of their own.
    fn decode_cut(
        &mut self,
        window: u64,
        blocks: &[u8],
        is_ended: bool,
        dictionary: &[u8],
    ) -> Result<(), CodecError> {
        let header = frame::synthetic(window);
        let end = if is_ended {
            &[][..]
        } else {
            &block::EMPTY_LAST
        };
        let frame = [&header, blocks, end].concat();
        let room = &mut self.output[self.filled..];
        let result = self.decoder.decompress_using_dict(room, &frame, dictionary);
        self.filled += result.map_err(|code| self.decode_error(code))?;
        Ok(())
    }

    fn decode_error(&self, code: usize) -> CodecError {
        // libzstd's codes are negative numbers.
        let number = code.wrapping_neg();
        if number == ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize {
            return CodecError::ChunkLength {
                declared: self.declared,
                more: true,
            };
        }
        if number == ZSTD_ErrorCode::ZSTD_error_memory_allocation as usize {
            return CodecError::NoMemory;
        }
        self.corrupt(zstd_safe::get_error_name(code))
    }

    /// Passes a frame's checksum: it covers the whole frame, the chunk's bytes are verified
    /// by the caller. It may be cut off, as it yields nothing.
    fn skip_checksum(&mut self, is_there: bool) -> Result<(), CodecError> {
        if is_there {
            self.position = (self.position + frame::CHECKSUM_LENGTH).min(self.bytes.len());
        }
        Ok(())
    }
}
