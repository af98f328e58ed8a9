//! The pass over a zstd layer: frames, their blocks, and what lies between them.

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::block::{self, BlockHeader, BlockKind};
use super::frame::{self, Opening};
use super::starts::ChunkStarts;
use crate::{CodecError, Scan, ScanOptions, Scanner, Sink};
use index_format::{CompressedOffset, Compression};

/// The largest window that is decoded at all, in bytes: libzstd keeps that much memory for
/// it. The same limit as libzstd's own default and the zstd program's.
const MAX_WINDOW: u64 = 128 << 20;

/// What the next bytes are.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Magic and descriptor of a frame, or a skippable frame's first bytes.
    Opening,
    /// A frame's header, the opening included.
    FrameHeader {
        length: usize,
    },
    SkippableHeader,
    Skippable {
        left: u64,
    },
    BlockHeader,
    Block(BlockHeader),
    Checksum,
}

impl Part {
    /// How many bytes must be together.
    fn length(self) -> usize {
        match self {
            Part::Opening => frame::HEADER_START,
            Part::FrameHeader { length } => length,
            Part::SkippableHeader => frame::SKIPPABLE_HEADER_LENGTH,
            Part::Skippable { .. } => 1,
            Part::BlockHeader => block::HEADER_LENGTH,
            Part::Block(header) => header.body_length(),
            Part::Checksum => frame::CHECKSUM_LENGTH,
        }
    }
}

/// Scans any sequence of frames.
pub(crate) struct ZstdScanner {
    options: ScanOptions,
    part: Part,
    /// The beginning of the part, when it came in pieces.
    gathered: Vec<u8>,
    /// Made when the first frame comes.
    decoder: Option<DCtx<'static>>,
    output: Vec<u8>,
    starts: ChunkStarts,
    /// Bytes before the current part.
    compressed: u64,
    stream: u64,
    frame: Frame,
    frames: u64,
}

/// The current frame.
#[derive(Debug, Default, Clone, Copy)]
struct Frame {
    checksum: bool,
    /// Bytes of content so far.
    content: u64,
}

impl ZstdScanner {
    pub(crate) fn new(options: ScanOptions) -> ZstdScanner {
        ZstdScanner {
            options,
            part: Part::Opening,
            gathered: Vec::new(),
            decoder: None,
            output: vec![0; DCtx::out_size()],
            starts: ChunkStarts::new(options),
            compressed: 0,
            stream: 0,
            frame: Frame::default(),
            frames: 0,
        }
    }

    /// A scanner that keeps no history, since nothing will be made of it.
    pub(crate) fn without_checkpoints(options: ScanOptions) -> ZstdScanner {
        let mut scanner = ZstdScanner::new(options);
        scanner.starts.keep_nothing();
        scanner
    }

    fn corrupt(&self, reason: impl Into<String>) -> CodecError {
        let offset = CompressedOffset(self.compressed);
        CodecError::Corrupt {
            compression: Compression::Zstd,
            offset,
            reason: reason.into(),
        }
    }

    /// Takes a part that is complete. A part that turns out to be the beginning of a longer
    /// one is put back: the answer is how many bytes were used.
    fn take_part(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<usize, CodecError> {
        match self.part {
            Part::Opening => self.take_opening(bytes)?,
            Part::FrameHeader { .. } => self.take_frame_header(bytes, sink)?,
            Part::SkippableHeader => {
                let header = bytes
                    .first_chunk()
                    .ok_or_else(|| self.corrupt("no header"))?;
                let left = frame::skippable_length(*header).into();
                self.pass(bytes.len());
                self.part = skippable(left);
            }
            Part::Skippable { left } => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.pass(taken);
                self.part = skippable(left - taken as u64);
                return Ok(taken);
            }
            Part::BlockHeader => self.take_block_header(bytes, sink)?,
            Part::Block(header) => self.take_block(header, bytes, sink)?,
            Part::Checksum => {
                self.decode(bytes, sink)?;
                self.end_frame();
            }
        }
        Ok(bytes.len())
    }

    fn pass(&mut self, count: usize) {
        self.compressed += count as u64;
    }

    fn take_opening(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        let start = bytes
            .first_chunk()
            .ok_or_else(|| self.corrupt("no opening"))?;
        self.part = match frame::opening(*start) {
            Opening::Frame {
                header_length: length,
            } => Part::FrameHeader { length },
            Opening::Skippable => Part::SkippableHeader,
            Opening::Unknown if self.frames > 0 => return Err(self.garbage()),
            Opening::Unknown => return Err(self.corrupt("no frame starts here")),
        };
        Ok(())
    }

    fn garbage(&self) -> CodecError {
        let offset = CompressedOffset(self.compressed);
        CodecError::TrailingGarbage {
            compression: Compression::Zstd,
            offset,
        }
    }

    fn take_frame_header(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), CodecError> {
        let header = frame::parse(bytes).ok_or_else(|| self.corrupt("a bad frame header"))?;
        let (window, limit) = (header.window, MAX_WINDOW);
        if header.dictionary_id != 0 {
            let (offset, id) = (CompressedOffset(self.compressed), header.dictionary_id);
            return Err(CodecError::DictionaryNeeded { offset, id });
        }
        if window > limit {
            return Err(CodecError::WindowTooLarge { window, limit });
        }
        self.frame = Frame {
            checksum: header.checksum,
            content: 0,
        };
        self.starts.start_frame(header, self.compressed);
        self.decode(bytes, sink)?;
        self.part = Part::BlockHeader;
        Ok(())
    }

    fn take_block_header(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), CodecError> {
        let header = bytes
            .first_chunk()
            .and_then(|bytes| BlockHeader::parse(*bytes));
        let header = header.ok_or_else(|| self.corrupt("a bad block header"))?;
        self.starts.start_block(self.compressed);
        self.decode(bytes, sink)?;
        if header.body_length() == 0 {
            self.end_block(header);
        } else {
            self.part = Part::Block(header);
        }
        Ok(())
    }

    fn take_block(
        &mut self,
        header: BlockHeader,
        body: &[u8],
        sink: Sink<'_>,
    ) -> Result<(), CodecError> {
        match header.kind {
            BlockKind::Raw | BlockKind::Rle => self.starts.follow_plain(header.size),
            BlockKind::Compressed => self.starts.follow_compressed(body),
        }
        self.decode(body, sink)?;
        self.end_block(header);
        Ok(())
    }

    fn end_block(&mut self, header: BlockHeader) {
        self.starts.end_block(self.frame.content);
        if !header.last {
            self.part = Part::BlockHeader;
        } else if self.frame.checksum {
            self.part = Part::Checksum;
        } else {
            self.end_frame();
        }
    }

    fn end_frame(&mut self) {
        self.starts.end_frame(self.compressed);
        self.frames += 1;
        self.part = Part::Opening;
    }

    /// Gives the next bytes to libzstd and hands on what it makes of them.
    fn decode(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), CodecError> {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(DCtx::try_create().ok_or(CodecError::NoMemory)?),
        };
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(&mut self.output[..]);
            let hint = decoder.decompress_stream(&mut output, &mut input);
            let produced = output.pos();
            let hint = match hint {
                Ok(hint) => hint,
                Err(code) => return Err(self.decode_error(code, bytes.len())),
            };
            if produced > 0 {
                self.stream += produced as u64;
                self.frame.content += produced as u64;
                let limit = self.options.max_stream_size;
                if self.stream > limit {
                    return Err(CodecError::StreamTooLong { limit });
                }
                self.starts.add_content(&self.output[..produced]);
                sink(&self.output[..produced])?;
            }
            if input.pos == bytes.len() && (produced < self.output.len() || hint == 0) {
                self.pass(bytes.len());
                return Ok(());
            }
        }
    }

    fn decode_error(&self, code: usize, length: usize) -> CodecError {
        // libzstd's codes are negative numbers.
        let number = code.wrapping_neg();
        if number == ZSTD_ErrorCode::ZSTD_error_checksum_wrong as usize {
            let offset = CompressedOffset(self.compressed + length as u64);
            let what = "frame checksum";
            return CodecError::Checksum {
                compression: Compression::Zstd,
                offset,
                what,
            };
        }
        if number == ZSTD_ErrorCode::ZSTD_error_memory_allocation as usize {
            return CodecError::NoMemory;
        }
        self.corrupt(zstd_safe::get_error_name(code))
    }

    /// Completes a part that came in pieces; answers how much of `input` it took.
    fn gather(&mut self, input: &[u8], sink: Sink<'_>) -> Result<usize, CodecError> {
        let wanted = self.part.length() - self.gathered.len();
        let taken = wanted.min(input.len());
        self.gathered.extend_from_slice(&input[..taken]);
        if taken == wanted {
            let gathered = std::mem::take(&mut self.gathered);
            let before = self.compressed;
            self.take_part(&gathered, sink)?;
            self.gathered = gathered;
            // An opening that goes on as a longer header has not been passed.
            if self.compressed != before {
                self.gathered.clear();
            }
        }
        Ok(taken)
    }
}

fn skippable(left: u64) -> Part {
    if left == 0 {
        Part::Opening
    } else {
        Part::Skippable { left }
    }
}

impl Scanner for ZstdScanner {
    fn push(&mut self, compressed: &[u8], sink: Sink<'_>) -> Result<(), CodecError> {
        let mut rest = compressed;
        while !rest.is_empty() {
            let taken = match self.part {
                Part::Skippable { .. } => self.take_part(rest, sink)?,
                Part::Opening => self.gather(rest, sink)?,
                part if !self.gathered.is_empty() || rest.len() < part.length() => {
                    self.gather(rest, sink)?
                }
                part => self.take_part(&rest[..part.length()], sink)?,
            };
            rest = &rest[taken..];
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Scan, CodecError> {
        let between = matches!(self.part, Part::Opening) && self.frames > 0;
        if between && !frame::may_be_opening(&self.gathered) {
            return Err(self.garbage());
        }
        let size = self.compressed + self.gathered.len() as u64;
        if !between || !self.gathered.is_empty() {
            let offset = CompressedOffset(size);
            return Err(CodecError::Truncated {
                compression: Compression::Zstd,
                offset,
            });
        }
        let (chunks, stream_only) = self.starts.finish();
        Ok(chunks.finish(size, self.stream, stream_only))
    }
}
