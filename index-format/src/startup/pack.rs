//! The table at the start of a pack: which leaves its frames hold.

use std::ops::Range;

use crate::digest::Digest;
use crate::limit::{MAX_CHUNKS, MAX_LAYERS};

use super::cursor::{Cursor, DIGEST_SIZE, HEADER_SIZE, Header, seal, unseal};
use super::{LeafRun, MAX_LEAVES, StartupError};

const WHAT: &str = "pack";
const MAGIC: &[u8; 8] = b"brskpack";
const VERSION: u16 = 1;
const FRAME_SIZE: u64 = 8;
const RUN_SIZE: u64 = 16;

/// Bytes that say how long the table is: its header.
pub const PACK_HEADER_SIZE: usize = HEADER_SIZE as usize;

/// Leaves in one frame: 8 MiB, zstd's own largest window at level 19. A reader holds so much of a
/// decoder's window.
pub const MAX_FRAME_LEAVES: u64 = 128;

/// Compressed bytes of one frame: those of its leaves had zstd not made them smaller.
pub const MAX_FRAME_SIZE: u32 = (MAX_FRAME_LEAVES as u32) * 65536 + (1 << 16);

/// One zstd frame of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFrame {
    /// Where its compressed bytes are in the blob.
    pub compressed: Range<u64>,
    /// The leaves it yields, in order.
    pub runs: Vec<LeafRun>,
}

/// What a pack holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackTable {
    /// Digests of the compressed layers that the leaves belong to.
    pub layers: Vec<Digest>,
    /// The frames, in order and without gaps from the end of the table to the end of the blob.
    pub frames: Vec<PackFrame>,
}

impl PackTable {
    /// The table of frames of these compressed lengths. Their place in the blob follows.
    pub fn new(layers: Vec<Digest>, frames: Vec<(u32, Vec<LeafRun>)>) -> PackTable {
        let runs: usize = frames.iter().map(|(_, runs)| runs.len()).sum();
        let mut start = table_size(layers.len() as u64, frames.len() as u64, runs as u64);
        let place = |(length, runs)| {
            let compressed = start..start + u64::from(length);
            start = compressed.end;
            PackFrame { compressed, runs }
        };
        let frames = frames.into_iter().map(place).collect();
        PackTable { layers, frames }
    }

    /// Bytes of the whole pack.
    pub fn size(&self) -> u64 {
        let runs: usize = self.frames.iter().map(|frame| frame.runs.len()).sum();
        let table = table_size(
            self.layers.len() as u64,
            self.frames.len() as u64,
            runs as u64,
        );
        self.frames
            .last()
            .map_or(table, |frame| frame.compressed.end)
    }

    /// Leaves of all frames.
    pub fn leaves(&self) -> u64 {
        let runs = self.frames.iter().flat_map(|frame| &frame.runs);
        runs.map(LeafRun::count).sum()
    }

    /// The bytes of FORMAT.md section 9, without the frames themselves.
    pub fn encode(&self) -> Vec<u8> {
        let runs = || self.frames.iter().flat_map(|frame| &frame.runs);
        let counts = [
            self.layers.len() as u32,
            self.frames.len() as u32,
            runs().count() as u32,
        ];
        let mut bytes = Header { counts }.encode(MAGIC, VERSION);
        for layer in &self.layers {
            bytes.extend_from_slice(layer.as_bytes());
        }
        for frame in &self.frames {
            let length = (frame.compressed.end - frame.compressed.start) as u32;
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&(frame.runs.len() as u32).to_le_bytes());
        }
        for run in runs() {
            bytes.extend_from_slice(&run.leaves.start.to_le_bytes());
            bytes.extend_from_slice(&run.layer.to_le_bytes());
            bytes.extend_from_slice(&(run.count() as u32).to_le_bytes());
        }
        seal(&mut bytes);
        bytes
    }

    /// How many bytes the table has, from its header.
    ///
    /// # Errors
    /// See [`StartupError`].
    pub fn length(header: &[u8]) -> Result<u64, StartupError> {
        let [layers, frames, runs] = Header::decode(WHAT, MAGIC, VERSION, header)?.counts;
        let limits = [
            ("layers", layers, MAX_LAYERS),
            ("frames", frames, MAX_LEAVES),
            ("runs", runs, MAX_LEAVES),
        ];
        for (field, value, limit) in limits {
            if value as usize > limit {
                return Err(bad(field, value.into()));
            }
        }
        Ok(table_size(layers.into(), frames.into(), runs.into()))
    }

    /// Reads and checks a table; `bytes` begins with it and may go on.
    ///
    /// # Errors
    /// See [`StartupError`].
    pub fn decode(bytes: &[u8]) -> Result<PackTable, StartupError> {
        let size = PackTable::length(bytes)?;
        let table = bytes.get(..size as usize).unwrap_or(bytes);
        let [layers, frames, runs] = Header::decode(WHAT, MAGIC, VERSION, table)?.counts;
        let mut cursor = Cursor::new(unseal(WHAT, size, table)?);
        let layers: Vec<Digest> = (0..layers).map(|_| cursor.digest()).collect();
        let frames: Vec<(u32, u32)> = (0..frames).map(|_| (cursor.u32(), cursor.u32())).collect();
        let mut all = Vec::with_capacity(runs as usize);
        let mut leaves = 0;
        for _ in 0..runs {
            let (first, layer, count) = (cursor.u64(), cursor.u32(), u64::from(cursor.u32()));
            if layer as usize >= layers.len() {
                return Err(bad("layer", layer.into()));
            }
            if first >= MAX_CHUNKS {
                return Err(bad("first leaf", first));
            }
            leaves += count;
            if count == 0 || leaves > MAX_LEAVES as u64 {
                return Err(bad("leaves", count));
            }
            let leaves = first..first + count;
            all.push(LeafRun { layer, leaves });
        }
        let mut all = all.into_iter();
        let mut divided = Vec::with_capacity(frames.len());
        for (length, runs) in frames {
            let runs: Vec<LeafRun> = all.by_ref().take(runs as usize).collect();
            let leaves = runs.iter().map(LeafRun::count).sum();
            if !(1..=MAX_FRAME_LEAVES).contains(&leaves) {
                return Err(bad("leaves of a frame", leaves));
            }
            if !(1..=MAX_FRAME_SIZE).contains(&length) {
                return Err(bad("length of a frame", length.into()));
            }
            divided.push((length, runs));
        }
        match all.count() {
            0 => Ok(PackTable::new(layers, divided)),
            left => Err(bad("runs of no frame", left as u64)),
        }
    }
}

fn table_size(layers: u64, frames: u64, runs: u64) -> u64 {
    HEADER_SIZE + layers * DIGEST_SIZE + frames * FRAME_SIZE + runs * RUN_SIZE + DIGEST_SIZE
}

fn bad(field: &'static str, value: u64) -> StartupError {
    StartupError::Field {
        what: WHAT,
        field,
        value,
    }
}
