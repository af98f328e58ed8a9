//! Raw deflate (RFC 1951) that stops at block boundaries and starts at any bit.
//!
//! flate2 hides the three calls that checkpoints need (`inflate` with `Z_BLOCK`,
//! `inflatePrime`, `inflateSetDictionary`), so zlib-rs is called through its C interface here.

use std::ffi::{CStr, c_int};

use libz_rs_sys as z;

/// The farthest that a deflate match reaches back (RFC 1951 section 2), in bytes.
pub const WINDOW_SIZE: usize = 32 * 1024;

/// Raw deflate: a negative number of window bits says that no zlib or gzip header is there.
const RAW_WINDOW_BITS: c_int = -15;

/// What one call hands zlib at most: its counters are 32 bits wide.
const MAX_CALL: usize = 1 << 30;

/// A deflate stream that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The bits are no deflate stream; zlib's words say where it noticed.
    #[error("corrupt deflate data: {0}")]
    Data(String),
    /// zlib could not get its memory (about 48 KiB).
    #[error("no memory for inflating")]
    Memory,
    /// A call was refused; `call` is zlib's function, `code` its answer.
    #[error("{call} answered {code}")]
    Refused {
        /// zlib's function.
        call: &'static str,
        /// zlib's return code.
        code: c_int,
    },
}

/// Where [`Inflater::run`] may stop before input or output are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAt {
    /// Only at the end of the stream.
    StreamEnd,
    /// At the end of every deflate block as well.
    BlockEnd,
}

/// Where a run stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Input or output is used up.
    Starved,
    /// Between two blocks.
    BlockEnd {
        /// How many high bits of the last consumed byte belong to the next block: 0 to 7.
        unused_bits: u8,
        /// Whether the block that ended was the stream's last.
        last: bool,
    },
    /// After the last block; the following byte is not part of the deflate stream.
    StreamEnd,
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Bytes taken from the input.
    pub consumed: usize,
    /// Bytes written to the output.
    pub produced: usize,
    /// Why it came back.
    pub stop: Stop,
}

/// A raw deflate decoder.
pub struct Inflater {
    /// Boxed: zlib requires that the stream structure stays where it was initialised.
    stream: Box<z::z_stream>,
}

// SAFETY: the structure owns its state (allocated by zlib-rs's own allocator, bound to no
// thread); the input and output pointers inside are only followed during `run`, which sets
// them afresh from borrowed slices. The raw pointers alone keep it from being Send.
unsafe impl Send for Inflater {}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Inflater {
    /// A decoder at the start of a stream, with an empty window.
    ///
    /// # Errors
    /// [`InflateError::Memory`] when zlib's state cannot be allocated.
    pub fn new() -> Result<Inflater, InflateError> {
        let mut stream = Box::new(z::z_stream::default());
        let size = c_int::try_from(size_of::<z::z_stream>()).expect("a small structure");
        // SAFETY: the stream is valid and exclusively ours; default() has set the allocator
        // fields as zlib demands; version and size are those of the library linked.
        let code =
            unsafe { z::inflateInit2_(&raw mut *stream, RAW_WINDOW_BITS, z::zlibVersion(), size) };
        match code {
            z::Z_OK => Ok(Inflater { stream }),
            z::Z_MEM_ERROR => Err(InflateError::Memory),
            code => Err(InflateError::Refused {
                call: "inflateInit2_",
                code,
            }),
        }
    }

    /// Back to the start of a stream with an empty window, keeping the memory.
    ///
    /// # Errors
    /// [`InflateError::Refused`], which zlib gives only for a stream it does not know.
    pub fn reset(&mut self) -> Result<(), InflateError> {
        // SAFETY: the stream was initialised by `new` and is exclusively borrowed.
        let code = unsafe { z::inflateReset2(&raw mut *self.stream, RAW_WINDOW_BITS) };
        accepted("inflateReset2", code)
    }

    /// Puts the high `bits` bits (0 to 7) of `byte` before the input, right after `new`
    /// or `reset`: the stream starts inside that byte.
    ///
    /// # Errors
    /// [`InflateError::Refused`] when `bits` is above 7.
    pub fn prime(&mut self, bits: u8, byte: u8) -> Result<(), InflateError> {
        if bits > 7 {
            return Err(InflateError::Refused {
                call: "inflatePrime",
                code: z::Z_STREAM_ERROR,
            });
        }
        if bits == 0 {
            return Ok(());
        }
        let value = c_int::from(byte >> (8 - bits));
        // SAFETY: the stream was initialised by `new` and is exclusively borrowed.
        let code = unsafe { z::inflatePrime(&raw mut *self.stream, c_int::from(bits), value) };
        accepted("inflatePrime", code)
    }

    /// Gives the bytes before the stream, right after `new` or `reset`. Only the last
    /// [`WINDOW_SIZE`] of them count.
    ///
    /// # Errors
    /// [`InflateError::Refused`], which a raw stream never gives.
    pub fn set_window(&mut self, window: &[u8]) -> Result<(), InflateError> {
        let window = &window[window.len().saturating_sub(WINDOW_SIZE)..];
        if window.is_empty() {
            return Ok(());
        }
        let length = z::uInt::try_from(window.len()).expect("at most WINDOW_SIZE");
        // SAFETY: the stream was initialised by `new` and is exclusively borrowed; pointer
        // and length are those of a slice that outlives the call, which copies it.
        let code =
            unsafe { z::inflateSetDictionary(&raw mut *self.stream, window.as_ptr(), length) };
        accepted("inflateSetDictionary", code)
    }

    /// Decodes until input or output is used up, or until `stop_at`.
    ///
    /// # Errors
    /// [`InflateError::Data`] when the bits are no deflate stream or refer to bytes before
    /// the window. After an error only `reset` is of use.
    pub fn run(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        stop_at: StopAt,
    ) -> Result<Run, InflateError> {
        let available_in = z::uInt::try_from(input.len().min(MAX_CALL)).expect("at most MAX_CALL");
        let available_out =
            z::uInt::try_from(output.len().min(MAX_CALL)).expect("at most MAX_CALL");
        let flush = match stop_at {
            StopAt::StreamEnd => z::Z_NO_FLUSH,
            StopAt::BlockEnd => z::Z_BLOCK,
        };
        self.stream.next_in = input.as_ptr();
        self.stream.avail_in = available_in;
        self.stream.next_out = output.as_mut_ptr();
        self.stream.avail_out = available_out;
        // SAFETY: the stream was initialised by `new` and is exclusively borrowed; next_in
        // and next_out point to at least avail_in readable and avail_out writable bytes of
        // slices that outlive the call, and they do not overlap (one is borrowed mutably).
        let code = unsafe { z::inflate(&raw mut *self.stream, flush) };
        let consumed = (available_in - self.stream.avail_in) as usize;
        let produced = (available_out - self.stream.avail_out) as usize;
        let stop = match code {
            z::Z_STREAM_END => Stop::StreamEnd,
            // Z_BUF_ERROR: nothing was possible; the caller sees two zeros.
            z::Z_OK | z::Z_BUF_ERROR => self.stop()?,
            z::Z_MEM_ERROR => return Err(InflateError::Memory),
            z::Z_DATA_ERROR => return Err(InflateError::Data(self.message())),
            code => {
                return Err(InflateError::Refused {
                    call: "inflate",
                    code,
                });
            }
        };
        Ok(Run {
            consumed,
            produced,
            stop,
        })
    }

    /// Reads zlib's `data_type`: unused bits, 64 after the last block, 128 between blocks.
    fn stop(&self) -> Result<Stop, InflateError> {
        let state = self.stream.data_type;
        if state & 128 == 0 {
            return Ok(Stop::Starved);
        }
        let unused = state & 63;
        match u8::try_from(unused) {
            Ok(unused_bits) if unused_bits < 8 => Ok(Stop::BlockEnd {
                unused_bits,
                last: state & 64 != 0,
            }),
            _ => Err(InflateError::Refused {
                call: "inflate (unused bits)",
                code: unused,
            }),
        }
    }

    fn message(&self) -> String {
        if self.stream.msg.is_null() {
            return "no reason given".to_owned();
        }
        // SAFETY: zlib sets msg to a string literal that ends with a zero byte.
        let message = unsafe { CStr::from_ptr(self.stream.msg) };
        message.to_string_lossy().into_owned()
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: the stream was initialised by `new` and is ended once, here.
        unsafe { z::inflateEnd(&raw mut *self.stream) };
    }
}

fn accepted(call: &'static str, code: c_int) -> Result<(), InflateError> {
    if code == z::Z_OK {
        Ok(())
    } else {
        Err(InflateError::Refused { call, code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "abc" as one fixed-Huffman block, and as a stored block followed by it.
    const FIXED: &[u8] = &[0x4b, 0x4c, 0x4a, 0x06, 0x00];

    #[test]
    fn a_stream_ends() {
        let mut out = [0; 8];
        let run = Inflater::new()
            .unwrap()
            .run(FIXED, &mut out, StopAt::StreamEnd)
            .unwrap();
        assert_eq!(
            run,
            Run {
                consumed: 5,
                produced: 3,
                stop: Stop::StreamEnd
            }
        );
        assert_eq!(&out[..3], b"abc");
    }

    #[test]
    fn a_block_end_is_told_with_its_bits() {
        let mut stored = vec![0, 2, 0, 0xfd, 0xff, b'h', b'i'];
        stored.extend_from_slice(FIXED);
        let mut inflater = Inflater::new().unwrap();
        let mut out = [0; 8];
        let run = inflater.run(&stored, &mut out, StopAt::BlockEnd).unwrap();
        assert_eq!((run.consumed, run.produced), (7, 2));
        assert_eq!(
            run.stop,
            Stop::BlockEnd {
                unused_bits: 0,
                last: false
            }
        );
        let run = inflater
            .run(&stored[7..], &mut out, StopAt::BlockEnd)
            .unwrap();
        assert_eq!(run.produced, 3);
        assert!(matches!(run.stop, Stop::BlockEnd { last: true, .. }));
        let run = inflater.run(&[], &mut out, StopAt::BlockEnd).unwrap();
        assert_eq!(run.stop, Stop::StreamEnd);
    }

    #[test]
    fn a_stream_starts_inside_a_byte_and_with_a_window() {
        // The fixed block of FIXED, moved up by three bits.
        let mut moved = [0u8; 6];
        for bit in 0..40 {
            let value = FIXED[bit / 8] >> (bit % 8) & 1;
            moved[(bit + 3) / 8] |= value << ((bit + 3) % 8);
        }
        let mut inflater = Inflater::new().unwrap();
        inflater.prime(5, moved[0]).unwrap();
        inflater.set_window(b"before").unwrap();
        let mut out = [0; 8];
        let run = inflater
            .run(&moved[1..], &mut out, StopAt::StreamEnd)
            .unwrap();
        assert_eq!((run.produced, &out[..3]), (3, &b"abc"[..]));
    }

    #[test]
    fn corruption_has_words_and_reset_forgets_it() {
        let mut inflater = Inflater::new().unwrap();
        let mut out = [0; 8];
        let error = inflater
            .run(&[0x07], &mut out, StopAt::StreamEnd)
            .unwrap_err();
        assert_eq!(error, InflateError::Data("invalid block type".to_owned()));
        inflater.reset().unwrap();
        let run = inflater.run(FIXED, &mut out, StopAt::StreamEnd).unwrap();
        assert_eq!(run.stop, Stop::StreamEnd);
    }

    #[test]
    fn more_than_seven_bits_are_refused() {
        assert!(Inflater::new().unwrap().prime(8, 0).is_err());
    }
}
