//! Content in memory, some of which can be held back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::mem;
use std::ops::Range;
use std::sync::Mutex;

use fuse::{Content, Done, Piece};

#[derive(Default)]
struct Held {
    ranges: Vec<(u32, Range<u64>)>,
    reads: Vec<(Vec<Piece>, Done)>,
}

/// The streams of all layers. Reads that touch a held range wait for [`Memory::release`].
pub struct Memory {
    streams: Vec<Vec<u8>>,
    held: Mutex<Held>,
}

impl Memory {
    pub fn new(streams: Vec<Vec<u8>>) -> Self {
        Self {
            streams,
            held: Mutex::default(),
        }
    }

    pub fn hold(&self, layer: u32, range: Range<u64>) {
        self.held.lock().unwrap().ranges.push((layer, range));
    }

    /// Answers what waits, and holds nothing back any more.
    pub fn release(&self) {
        let held = mem::take(&mut *self.held.lock().unwrap());
        for (pieces, done) in held.reads {
            done(Ok(&self.bytes(&pieces)));
        }
    }

    pub fn bytes(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in pieces {
            match *piece {
                Piece::Zeros { length } => bytes.resize(bytes.len() + length as usize, 0),
                Piece::Stream {
                    layer,
                    offset,
                    length,
                } => {
                    let range = offset.0 as usize..(offset.0 + length) as usize;
                    bytes.extend_from_slice(&self.streams[layer as usize][range]);
                }
            }
        }
        bytes
    }
}

impl Content for Memory {
    fn read(&self, pieces: Vec<Piece>, done: Done) {
        let mut held = self.held.lock().unwrap();
        let is_held = pieces.iter().any(|piece| match *piece {
            Piece::Zeros { .. } => false,
            Piece::Stream {
                layer,
                offset,
                length,
            } => held.ranges.iter().any(|(l, range)| {
                *l == layer && range.start < offset.0 + length && offset.0 < range.end
            }),
        });
        if is_held {
            held.reads.push((pieces, done));
            return;
        }
        drop(held);
        done(Ok(&self.bytes(&pieces)));
    }
}
