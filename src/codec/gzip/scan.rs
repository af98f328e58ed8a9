//! The pass over a gzip layer: members, their blocks, checksums, and what follows the last.

use flate2::Crc;
use sys::inflate::{InflateError, Inflater, Stop, StopAt, WINDOW_SIZE};

use super::header::{self, HeaderParser, TRAILER_LENGTH};
use super::starts::ChunkStarts;
use crate::chunks::Start;
use crate::{CodecError, Scan, ScanOptions, Scanner, Sink};
use index_format::{CompressedOffset, Compression};

/// Output made at once, besides the window before it: large enough that moving the window
/// down costs little, small enough for the processor's cache.
const OUTPUT_SIZE: usize = 256 * 1024;

enum Part {
    Header(HeaderParser),
    Deflate,
    Trailer {
        bytes: [u8; TRAILER_LENGTH],
        filled: usize,
    },
    /// Zeros up to the end, as tapes and some object stores leave them.
    Padding,
}

/// Scans any sequence of gzip members.
pub(crate) struct GzipScanner {
    options: ScanOptions,
    part: Part,
    inflater: Option<Inflater>,
    /// The last 32 KiB of the stream, and room for more behind `filled`.
    output: Vec<u8>,
    filled: usize,
    starts: ChunkStarts,
    crc: Crc,
    /// Bytes of the stream in this member and in all.
    member_length: u64,
    stream: u64,
    /// Bytes taken so far, and the last of them.
    compressed: u64,
    last_byte: u8,
    /// Where this member's header starts.
    member_start: u64,
    members: u64,
}

impl GzipScanner {
    pub(crate) fn new(options: ScanOptions) -> GzipScanner {
        GzipScanner {
            options,
            part: Part::Header(HeaderParser::new()),
            inflater: None,
            output: vec![0; WINDOW_SIZE + OUTPUT_SIZE],
            filled: 0,
            starts: ChunkStarts::new(options),
            crc: Crc::new(),
            member_length: 0,
            stream: 0,
            compressed: 0,
            last_byte: 0,
            member_start: 0,
            members: 0,
        }
    }

    fn corrupt(&self, at: u64, reason: impl Into<String>) -> CodecError {
        let offset = CompressedOffset(at);
        CodecError::Corrupt {
            compression: Compression::Gzip,
            offset,
            reason: reason.into(),
        }
    }

    fn inflate_error(&self, error: InflateError) -> CodecError {
        match error {
            InflateError::Data(reason) => self.corrupt(self.compressed, reason),
            InflateError::Memory => CodecError::NoMemory,
            refused @ InflateError::Refused { .. } => {
                self.corrupt(self.compressed, refused.to_string())
            }
        }
    }

    /// Takes the next part's bytes off `input`; answers how many.
    fn step(&mut self, input: &[u8], sink: Sink<'_>) -> Result<usize, CodecError> {
        match self.part {
            Part::Header(_) => self.read_header(input),
            Part::Deflate => return self.inflate(input, sink),
            Part::Trailer { .. } => self.read_trailer(input),
            Part::Padding => match input.iter().position(|&byte| byte != 0) {
                None => Ok(input.len()),
                Some(zeros) => Err(self.garbage(self.compressed + zeros as u64)),
            },
        }
        .inspect(|&taken| self.compressed += taken as u64)
    }

    fn garbage(&self, at: u64) -> CodecError {
        let offset = CompressedOffset(at);
        CodecError::TrailingGarbage {
            compression: Compression::Gzip,
            offset,
        }
    }

    fn read_header(&mut self, input: &[u8]) -> Result<usize, CodecError> {
        let Part::Header(parser) = &mut self.part else {
            return Ok(0);
        };
        if parser.is_new() {
            self.member_start = self.compressed;
            if self.members > 0 && input[0] == 0 {
                self.part = Part::Padding;
                return Ok(0);
            }
        }
        let taken = match parser.read(input) {
            Ok(taken) => taken,
            Err(_) if self.members > 0 && !parser.has_magic() => {
                return Err(self.garbage(self.member_start));
            }
            Err(reason) => return Err(self.corrupt(self.member_start, reason)),
        };
        if parser.is_done() {
            self.start_member()?;
        }
        Ok(taken)
    }

    fn start_member(&mut self) -> Result<(), CodecError> {
        match &mut self.inflater {
            Some(inflater) => inflater.reset(),
            none => Inflater::new().map(|inflater| *none = Some(inflater)),
        }
        .map_err(|error| self.inflate_error(error))?;
        self.crc.reset();
        self.member_length = 0;
        self.starts.offer_member(self.stream, self.member_start);
        self.part = Part::Deflate;
        Ok(())
    }

    /// Decodes until `input` is used up or the member's deflate stream ends.
    fn inflate(&mut self, input: &[u8], sink: Sink<'_>) -> Result<usize, CodecError> {
        let mut taken = 0;
        loop {
            self.make_room();
            let room = &mut self.output[self.filled..];
            let inflater = self.inflater.as_mut().expect("made at the member's start");
            let run = match inflater.run(&input[taken..], room, StopAt::BlockEnd) {
                Ok(run) => run,
                Err(error) => return Err(self.inflate_error(error)),
            };
            let is_full = run.produced == room.len();
            let consumed = &input[taken..taken + run.consumed];
            taken += run.consumed;
            self.compressed += run.consumed as u64;
            self.last_byte = consumed.last().copied().unwrap_or(self.last_byte);
            self.emit(run.produced, sink)?;
            self.starts.advance(consumed, run.produced, self.stream)?;
            match run.stop {
                Stop::StreamEnd => {
                    self.starts.end_member(self.stream)?;
                    self.part = Part::Trailer {
                        bytes: [0; TRAILER_LENGTH],
                        filled: 0,
                    };
                    return Ok(taken);
                }
                Stop::BlockEnd {
                    unused_bits,
                    last: false,
                } => self.offer_block(unused_bits),
                Stop::BlockEnd { last: true, .. } => {}
                Stop::Starved if is_full => {}
                Stop::Starved => return Ok(taken),
            }
        }
    }

    /// Moves the window to the front of the output buffer when that is full.
    fn make_room(&mut self) {
        if self.filled == self.output.len() {
            self.output.copy_within(self.filled - WINDOW_SIZE.., 0);
            self.filled = WINDOW_SIZE;
        }
    }

    /// Counts, sums and hands on the bytes just decoded.
    fn emit(&mut self, produced: usize, sink: Sink<'_>) -> Result<(), CodecError> {
        if produced == 0 {
            return Ok(());
        }
        let bytes = &self.output[self.filled..self.filled + produced];
        self.filled += produced;
        self.member_length += produced as u64;
        self.stream += produced as u64;
        let limit = self.options.max_stream_size;
        if self.stream > limit {
            return Err(CodecError::StreamTooLong { limit });
        }
        self.crc.update(bytes);
        sink(bytes)
    }

    fn offer_block(&mut self, unused_bits: u8) {
        if !self.starts.wants(self.stream, self.compressed) {
            return;
        }
        let shared = (unused_bits > 0).then_some(self.last_byte);
        let start = Start {
            stream: self.stream,
            compressed: self.compressed - u64::from(unused_bits > 0),
            bit: (8 - unused_bits) % 8,
        };
        let window = usize::try_from(self.member_length)
            .unwrap_or(usize::MAX)
            .min(WINDOW_SIZE);
        let window = &self.output[self.filled - window.min(self.filled)..self.filled];
        self.starts.offer_block(start, shared, window);
    }

    fn read_trailer(&mut self, input: &[u8]) -> Result<usize, CodecError> {
        let Part::Trailer { bytes, filled } = &mut self.part else {
            return Ok(0);
        };
        let taken = input.len().min(TRAILER_LENGTH - *filled);
        bytes[*filled..*filled + taken].copy_from_slice(&input[..taken]);
        *filled += taken;
        if *filled < TRAILER_LENGTH {
            return Ok(taken);
        }
        let (crc, length) = header::trailer(*bytes);
        let offset = CompressedOffset(self.compressed + taken as u64);
        let mismatch = |what| CodecError::Checksum {
            compression: Compression::Gzip,
            offset,
            what,
        };
        if crc != self.crc.sum() {
            return Err(mismatch("CRC32"));
        }
        if u64::from(length) != self.member_length & u64::from(u32::MAX) {
            return Err(mismatch("length"));
        }
        self.members += 1;
        if self.member_length > 0 {
            self.starts.content_ends(offset.0);
        }
        self.part = Part::Header(HeaderParser::new());
        Ok(taken)
    }
}

impl Scanner for GzipScanner {
    fn push(&mut self, compressed: &[u8], sink: Sink<'_>) -> Result<(), CodecError> {
        let mut rest = compressed;
        while !rest.is_empty() {
            let taken = self.step(rest, sink)?;
            rest = &rest[taken..];
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Scan, CodecError> {
        let ended = match &self.part {
            Part::Header(parser) => parser.is_new() && self.members > 0,
            Part::Padding => true,
            Part::Deflate | Part::Trailer { .. } => false,
        };
        if !ended {
            let offset = CompressedOffset(self.compressed);
            return Err(CodecError::Truncated {
                compression: Compression::Gzip,
                offset,
            });
        }
        let chunks = self.starts.finish();
        Ok(chunks.finish(self.compressed, self.stream, None))
    }
}
