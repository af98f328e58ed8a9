//! Decoding the frames of a pack, verifying and storing their leaves. Runs on a blocking thread.

use std::sync::Arc;

use bytes::Bytes;
use index_format::LEAF_SIZE;
use tokio::sync::mpsc;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::PackFault;
use crate::{Cause, Layer, decode, plan};

/// Largest window of a frame, as a power of two: that of the longest frame. A frame that wants
/// more memory is not decoded.
const WINDOW_LOG_MAX: u32 = 23;

/// One frame as the image's layers see it.
pub(super) struct Frame {
    /// Bytes of it.
    pub(super) compressed: u64,
    /// Its leaves in order, each with its layer where the image has it.
    pub(super) leaves: Vec<(Option<Arc<Layer>>, u64)>,
}

/// Takes the bytes of frames, one after the other.
pub(super) struct Unpacker {
    frames: Vec<Frame>,
}

impl Unpacker {
    pub(super) fn new(frames: Vec<Frame>) -> Unpacker {
        Unpacker { frames }
    }

    pub(super) fn run(self, mut pieces: mpsc::Receiver<Bytes>) -> Result<(), PackFault> {
        let mut piece = Bytes::new();
        for (number, frame) in self.frames.iter().enumerate() {
            let wrong = |reason: &dyn std::fmt::Display| PackFault::Frame {
                frame: number,
                reason: reason.to_string(),
            };
            let mut unpacked = Unpacked::new(frame).map_err(|e| wrong(&e))?;
            let mut left = frame.compressed;
            while left > 0 {
                if piece.is_empty() {
                    match pieces.blocking_recv() {
                        Some(next) => piece = next,
                        // Whoever sends knows why there is no more.
                        None => return Ok(()),
                    }
                }
                let taken = (piece.len() as u64).min(left);
                let taken = piece.split_to(taken as usize);
                left -= taken.len() as u64;
                unpacked.push(&taken, &wrong)?;
            }
            unpacked.finish().map_err(|reason| wrong(&reason))?;
        }
        Ok(())
    }
}

/// A frame being decoded.
struct Unpacked<'a> {
    frame: &'a Frame,
    decoder: Decoder<'static>,
    /// The leaf that is being filled.
    leaf: usize,
    buffer: Vec<u8>,
    filled: usize,
    ended: bool,
}

impl<'a> Unpacked<'a> {
    fn new(frame: &'a Frame) -> std::io::Result<Self> {
        let mut decoder = Decoder::new()?;
        let limit = zstd::stream::raw::DParameter::WindowLogMax(WINDOW_LOG_MAX);
        decoder.set_parameter(limit)?;
        let mut unpacked = Unpacked {
            frame,
            decoder,
            leaf: 0,
            buffer: Vec::new(),
            filled: 0,
            ended: false,
        };
        unpacked.size_buffer();
        Ok(unpacked)
    }

    /// Makes room for the next leaf; a leaf that no layer has is as long as most.
    fn size_buffer(&mut self) {
        let length = match self.frame.leaves.get(self.leaf) {
            Some((Some(layer), leaf)) => {
                let range = plan::leaf_range(*leaf, layer.index().stream_size());
                range.end - range.start
            }
            Some((None, _)) => LEAF_SIZE,
            None => 0,
        };
        self.buffer.resize(length as usize, 0);
        self.filled = 0;
    }

    fn push(
        &mut self,
        bytes: &[u8],
        wrong: &dyn Fn(&dyn std::fmt::Display) -> PackFault,
    ) -> Result<(), PackFault> {
        let mut input = InBuffer::around(bytes);
        loop {
            if self.ended {
                return match input.pos() == bytes.len() {
                    true => Ok(()),
                    false => Err(wrong(&"bytes follow its end")),
                };
            }
            let room = self.buffer.len() - self.filled;
            let mut rest = [0; 1];
            let (hint, written) = {
                // Behind the last leaf there is room for one byte, which must not come.
                let place = match room {
                    0 => &mut rest[..],
                    _ => &mut self.buffer[self.filled..],
                };
                let mut output = OutBuffer::around(place);
                let hint = self.decoder.run(&mut input, &mut output);
                (hint.map_err(|error| wrong(&error))?, output.pos())
            };
            if room == 0 && written > 0 {
                return Err(wrong(&"it is longer than its leaves"));
            }
            self.filled += written;
            self.ended = hint == 0;
            if room > 0 && self.filled == self.buffer.len() {
                self.store()?;
            } else if input.pos() == bytes.len() && written == 0 {
                return Ok(());
            }
        }
    }

    fn store(&mut self) -> Result<(), PackFault> {
        if let Some((Some(layer), leaf)) = self.frame.leaves.get(self.leaf) {
            if !layer.matches(*leaf, &self.buffer) {
                layer.counters().count_verification_failures(1);
                let (layer, leaf) = (layer.digest(), *leaf);
                return Err(PackFault::Leaf { layer, leaf });
            }
            decode::store(layer, *leaf, &self.buffer, Cause::StartUp);
            layer.arrive(*leaf);
        }
        self.leaf += 1;
        self.size_buffer();
        Ok(())
    }

    fn finish(&self) -> Result<(), &'static str> {
        match self.ended && self.leaf == self.frame.leaves.len() {
            true => Ok(()),
            false => Err("it is shorter than its leaves"),
        }
    }
}
