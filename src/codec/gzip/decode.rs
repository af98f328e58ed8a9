//! One chunk of a gzip layer.

use sys::inflate::{InflateError, Inflater, Stop, StopAt};

use super::header::{HeaderParser, TRAILER_LENGTH};
use super::window;
use crate::{ChunkSource, CodecError, History};
use index_format::{CompressedOffset, Compression};

/// Decodes exactly the declared length, through the ends of members inside the chunk.
///
/// The trailers of those members are passed over: their sums cover whole members, the
/// chunk's bytes are verified by the caller.
pub(crate) fn decode_chunk(
    chunk: &ChunkSource<'_>,
    history: History<'_>,
) -> Result<Vec<u8>, CodecError> {
    let declared = chunk.stream_length;
    let length = usize::try_from(declared).map_err(|_| CodecError::NoMemory)?;
    let mut decoder = ChunkDecoder::start(chunk, history)?;
    let mut output = vec![0; length];
    if decoder.fill(&mut output)? < length {
        return Err(CodecError::ChunkLength {
            declared,
            more: false,
        });
    }
    // What is left may end the block or the member, but must not yield another byte.
    if decoder.fill(&mut [0])? != 0 {
        return Err(CodecError::ChunkLength {
            declared,
            more: true,
        });
    }
    Ok(output)
}

struct ChunkDecoder<'a> {
    inflater: Inflater,
    rest: &'a [u8],
    length: usize,
    in_member: bool,
}

impl<'a> ChunkDecoder<'a> {
    fn start(chunk: &ChunkSource<'a>, history: History<'_>) -> Result<Self, CodecError> {
        let mut inflater = Inflater::new().map_err(|error| inflate_error(0, error))?;
        let stored;
        let window = match history {
            History::Free => None,
            History::Window(window) | History::Both { window, .. } => Some(window),
            History::Checkpoint(record) => {
                stored = window::decode(record)?;
                Some(&stored[..])
            }
        };
        let mut rest = chunk.compressed;
        if let Some(window) = window {
            rest = window::start(&mut inflater, rest, chunk.bit, window)
                .map_err(|error| inflate_error(0, error))?;
        }
        let (length, in_member) = (chunk.compressed.len(), window.is_some());
        Ok(ChunkDecoder {
            inflater,
            rest,
            length,
            in_member,
        })
    }

    fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    /// Decodes into `output` until it is full or the chunk's bytes are used up. Answers how
    /// many bytes there were.
    fn fill(&mut self, output: &mut [u8]) -> Result<usize, CodecError> {
        let mut filled = 0;
        while filled < output.len() {
            if !self.in_member && !self.start_member()? {
                break;
            }
            let run = (self.inflater)
                .run(self.rest, &mut output[filled..], StopAt::StreamEnd)
                .map_err(|error| inflate_error(self.offset(), error))?;
            self.rest = &self.rest[run.consumed..];
            filled += run.produced;
            if run.stop == Stop::StreamEnd {
                self.rest = self.rest.get(TRAILER_LENGTH..).unwrap_or(&[]);
                self.in_member = false;
            } else if run.consumed == 0 && run.produced == 0 {
                break;
            }
        }
        Ok(filled)
    }

    /// Passes a member's header; false when only padding or nothing follows.
    fn start_member(&mut self) -> Result<bool, CodecError> {
        if self.rest.iter().all(|&byte| byte == 0) {
            self.rest = &[];
            return Ok(false);
        }
        let offset = self.offset();
        let mut header = HeaderParser::new();
        let taken = header
            .read(self.rest)
            .map_err(|reason| corrupt(offset, reason))?;
        self.rest = &self.rest[taken..];
        if !header.is_done() {
            return Ok(false);
        }
        self.inflater
            .reset()
            .map_err(|error| inflate_error(offset, error))?;
        self.in_member = true;
        Ok(true)
    }
}

fn corrupt(offset: usize, reason: impl Into<String>) -> CodecError {
    let offset = CompressedOffset(offset as u64);
    CodecError::Corrupt {
        compression: Compression::Gzip,
        offset,
        reason: reason.into(),
    }
}

fn inflate_error(offset: usize, error: InflateError) -> CodecError {
    match error {
        InflateError::Data(reason) => corrupt(offset, reason),
        InflateError::Memory => CodecError::NoMemory,
        refused @ InflateError::Refused { .. } => corrupt(offset, refused.to_string()),
    }
}
