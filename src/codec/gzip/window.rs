//! The window of a checkpoint: which of its bytes matter, and its record.
//!
//! Only the first 32 KiB of a chunk can refer to the window. They are decoded three times,
//! each time with a window of markers in place of the true bytes: the low byte of every
//! position, its complement, and the high byte. An output byte that differs between the
//! first two passes was copied, however often, from the window, and passes one and three
//! spell its position. So no inflate of our own is needed to know what is referred to.

use sys::inflate::{InflateError, Inflater, StopAt, WINDOW_SIZE};

use crate::CodecError;
use crate::history::{self, UsedBytes};
use index_format::Compression;

/// The first byte of every record. Another one means a record of another version.
const VERSION: u8 = 1;

/// Makes `inflater` start `bit` bits into the first byte of `compressed`, after `window`.
/// Answers the rest of the input.
pub(super) fn start<'a>(
    inflater: &mut Inflater,
    compressed: &'a [u8],
    bit: u8,
    window: &[u8],
) -> Result<&'a [u8], InflateError> {
    inflater.reset()?;
    let mut rest = compressed;
    if bit != 0
        && let Some((&first, after)) = compressed.split_first()
    {
        // A bit above 7 makes this wrap above 7 as well, which prime refuses.
        inflater.prime(8u8.wrapping_sub(bit), first)?;
        rest = after;
    }
    inflater.set_window(window)?;
    Ok(rest)
}

/// Decodes with windows of markers.
pub(super) struct MarkerDecoder {
    inflater: Inflater,
    passes: [Vec<u8>; 3],
}

impl MarkerDecoder {
    pub(super) fn new() -> Result<MarkerDecoder, InflateError> {
        Ok(MarkerDecoder {
            inflater: Inflater::new()?,
            passes: [const { Vec::new() }; 3],
        })
    }

    /// Which bytes of a window of `window` bytes the first `limit` bytes of output of
    /// `compressed` refer to. `None` when they cannot be had from it.
    pub(super) fn used_bytes(
        &mut self,
        compressed: &[u8],
        bit: u8,
        window: usize,
        limit: usize,
    ) -> Option<UsedBytes> {
        let markers: [fn(usize) -> u8; 3] = [|at| at as u8, |at| !(at as u8), |at| (at >> 8) as u8];
        for (marker, output) in markers.into_iter().zip(&mut self.passes) {
            let dictionary: Vec<u8> = (0..window).map(marker).collect();
            output.resize(limit, 0);
            let rest = start(&mut self.inflater, compressed, bit, &dictionary).ok()?;
            let run = self.inflater.run(rest, output, StopAt::StreamEnd).ok()?;
            if run.produced != limit {
                return None;
            }
        }
        let [low, complement, high] = &self.passes;
        let mut used = UsedBytes::none(window);
        for ((&low, &complement), &high) in low.iter().zip(complement).zip(high) {
            if low != complement {
                let at = usize::from(low) | usize::from(high) << 8;
                used.mark(at..at + 1);
            }
        }
        Some(used)
    }
}

/// The record of a window of which only `used` is needed.
pub(super) fn encode(window: &[u8], used: &UsedBytes) -> Vec<u8> {
    let mut record = vec![VERSION];
    history::encode(&mut record, window, used, 0);
    record
}

/// The window of a record, what is not needed being zeros.
pub(super) fn decode(record: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut window = Vec::new();
    history::decode(body(record)?, WINDOW_SIZE as u64, &mut window).ok_or(bad("damaged window"))?;
    Ok(window)
}

/// How many bytes before the chunk the record's window holds.
pub(crate) fn history_length(record: &[u8]) -> Result<u64, CodecError> {
    let length = history::length(body(record)?).filter(|length| *length <= WINDOW_SIZE as u64);
    length.ok_or(bad("damaged window"))
}

fn body(record: &[u8]) -> Result<&[u8], CodecError> {
    match record.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some(_) => Err(bad("unknown version")),
        None => Err(bad("empty record")),
    }
}

fn bad(reason: &'static str) -> CodecError {
    CodecError::Checkpoint {
        compression: Compression::Gzip,
        reason,
    }
}
