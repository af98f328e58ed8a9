//! The start-up set: the leaves that a workload touched until it was ready, in order.

use std::collections::{HashMap, HashSet};

use crate::digest::Digest;
use crate::limit::{MAX_CHUNKS, MAX_LAYERS};

use super::cursor::{Cursor, DIGEST_SIZE, HEADER_SIZE, Header, seal, unseal};
use super::{LeafRun, MAX_LEAVES, StartupError, runs};

const WHAT: &str = "start-up set";
const MAGIC: &[u8; 8] = b"brskstrt";
const VERSION: u16 = 1;
const RUN_SIZE: u64 = 24;

/// Starts that are remembered. Above it all counts are halved, so that a program that has
/// changed its ways is followed after as many starts.
const MAX_STARTS: u32 = 16;

/// A leaf that was touched in some of the starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TouchedLeaf {
    /// Position of its layer in [`StartupSet::layers`].
    pub layer: u32,
    /// Its number in the layer's stream.
    pub leaf: u64,
    /// In how many of the starts it was touched.
    pub seen: u32,
}

/// What an image's workload touched until it was ready, merged over its starts.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StartupSet {
    starts: u32,
    layers: Vec<Digest>,
    leaves: Vec<TouchedLeaf>,
}

impl StartupSet {
    /// What one start touched: leaves as (position in `layers`, number), in order. A leaf that
    /// comes again, or is of no layer, is left out, and what exceeds the limit.
    pub fn of_start(
        layers: &[Digest],
        touched: impl IntoIterator<Item = (u32, u64)>,
    ) -> StartupSet {
        let mut set = StartupSet {
            starts: 1,
            ..StartupSet::default()
        };
        let mut positions: HashMap<Digest, u32> = HashMap::new();
        let mut known = HashSet::new();
        for (layer, leaf) in touched {
            let Some(digest) = layers.get(layer as usize) else {
                continue;
            };
            let next = set.layers.len() as u32;
            let layer = *positions.entry(*digest).or_insert(next);
            if layer == next {
                set.layers.push(*digest);
            }
            if set.leaves.len() < MAX_LEAVES && leaf < MAX_CHUNKS && known.insert((layer, leaf)) {
                let seen = 1;
                set.leaves.push(TouchedLeaf { layer, leaf, seen });
            }
        }
        set
    }

    /// Takes a later start in. What was known keeps its order; what is new comes right behind
    /// what was touched before it.
    pub fn merge(&mut self, later: &StartupSet) {
        let layers: Vec<u32> = later.layers.iter().map(|d| self.position(*d)).collect();
        let known: HashSet<(u32, u64)> = self.leaves.iter().map(|l| (l.layer, l.leaf)).collect();
        let mut touched: HashMap<(u32, u64), u32> = HashMap::new();
        // New leaves by the known one that they follow.
        let mut behind: HashMap<Option<(u32, u64)>, Vec<TouchedLeaf>> = HashMap::new();
        let mut before = None;
        for leaf in &later.leaves {
            let layer = layers[leaf.layer as usize];
            let key = (layer, leaf.leaf);
            if known.contains(&key) {
                touched.insert(key, leaf.seen);
                before = Some(key);
            } else {
                let leaf = TouchedLeaf { layer, ..*leaf };
                behind.entry(before).or_default().push(leaf);
            }
        }
        let mut merged = behind.remove(&None).unwrap_or_default();
        for mut leaf in std::mem::take(&mut self.leaves) {
            let key = (leaf.layer, leaf.leaf);
            leaf.seen += touched.get(&key).copied().unwrap_or(0);
            merged.push(leaf);
            merged.extend(behind.remove(&Some(key)).unwrap_or_default());
        }
        self.starts += later.starts;
        while self.starts > MAX_STARTS {
            self.starts = self.starts.div_ceil(2);
            for leaf in &mut merged {
                leaf.seen /= 2;
            }
        }
        merged.retain(|leaf| leaf.seen > 0);
        merged.truncate(MAX_LEAVES);
        self.leaves = merged;
    }

    fn position(&mut self, layer: Digest) -> u32 {
        let found = self.layers.iter().position(|known| *known == layer);
        let position = found.unwrap_or_else(|| {
            self.layers.push(layer);
            self.layers.len() - 1
        });
        position as u32
    }

    /// How many starts it is made of, the oldest ones counting less.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// The layers that its leaves belong to.
    pub fn layers(&self) -> &[Digest] {
        &self.layers
    }

    /// Every leaf, those that few starts touched included.
    pub fn leaves(&self) -> &[TouchedLeaf] {
        &self.leaves
    }

    /// What is to be there before the next start: the leaves that at least half of the starts
    /// touched, in order.
    pub fn runs(&self) -> Vec<LeafRun> {
        let usual = |leaf: &&TouchedLeaf| u64::from(leaf.seen) * 2 >= u64::from(self.starts);
        runs(
            self.leaves
                .iter()
                .filter(usual)
                .map(|leaf| (leaf.layer, leaf.leaf)),
        )
    }

    /// The bytes of FORMAT.md section 8.
    pub fn encode(&self) -> Vec<u8> {
        let mut records: Vec<(LeafRun, u32)> = Vec::new();
        for leaf in &self.leaves {
            match records.last_mut() {
                Some((run, seen))
                    if *seen == leaf.seen
                        && run.layer == leaf.layer
                        && run.leaves.end == leaf.leaf =>
                {
                    run.leaves.end += 1;
                }
                _ => {
                    let leaves = leaf.leaf..leaf.leaf + 1;
                    let layer = leaf.layer;
                    records.push((LeafRun { layer, leaves }, leaf.seen));
                }
            }
        }
        let counts = [self.layers.len() as u32, records.len() as u32, self.starts];
        let mut bytes = Header { counts }.encode(MAGIC, VERSION);
        for layer in &self.layers {
            bytes.extend_from_slice(layer.as_bytes());
        }
        for (run, seen) in records {
            bytes.extend_from_slice(&run.leaves.start.to_le_bytes());
            bytes.extend_from_slice(&run.layer.to_le_bytes());
            bytes.extend_from_slice(&(run.count() as u32).to_le_bytes());
            bytes.extend_from_slice(&seen.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
        }
        seal(&mut bytes);
        bytes
    }

    /// Reads and checks such bytes.
    ///
    /// # Errors
    /// See [`StartupError`].
    pub fn decode(bytes: &[u8]) -> Result<StartupSet, StartupError> {
        let bad = |field, value| StartupError::Field {
            what: WHAT,
            field,
            value,
        };
        let [layers, records, starts] = Header::decode(WHAT, MAGIC, VERSION, bytes)?.counts;
        if layers as usize > MAX_LAYERS {
            return Err(bad("layers", layers.into()));
        }
        if records as usize > MAX_LEAVES {
            return Err(bad("runs", records.into()));
        }
        if !(1..=MAX_STARTS).contains(&starts) {
            return Err(bad("starts", starts.into()));
        }
        let size = HEADER_SIZE
            + u64::from(layers) * DIGEST_SIZE
            + u64::from(records) * RUN_SIZE
            + DIGEST_SIZE;
        let mut cursor = Cursor::new(unseal(WHAT, size, bytes)?);
        let layers: Vec<Digest> = (0..layers).map(|_| cursor.digest()).collect();
        let mut leaves = Vec::new();
        let mut known = HashSet::new();
        for _ in 0..records {
            let (first, layer) = (cursor.u64(), cursor.u32());
            let (count, seen) = (u64::from(cursor.u32()), cursor.u32());
            cursor.u32();
            if layer as usize >= layers.len() {
                return Err(bad("layer", layer.into()));
            }
            if first >= MAX_CHUNKS {
                return Err(bad("first leaf", first));
            }
            if count == 0 || leaves.len() as u64 + count > MAX_LEAVES as u64 {
                return Err(bad("leaves", count));
            }
            if !(1..=starts).contains(&seen) {
                return Err(bad("seen", seen.into()));
            }
            for leaf in first..first + count {
                if !known.insert((layer, leaf)) {
                    return Err(bad("leaf", leaf));
                }
                leaves.push(TouchedLeaf { layer, leaf, seen });
            }
        }
        Ok(StartupSet {
            starts,
            layers,
            leaves,
        })
    }
}
