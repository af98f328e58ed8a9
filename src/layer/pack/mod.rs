//! A pack: the content of a start-up set in one blob, consumed as it arrives. FORMAT.md section 9.
//!
//! Its leaves are verified against the index as any others and stored; a reader of a leaf that
//! is about to arrive waits for it. What is wrong with a pack ends it, with a warning, and costs
//! nothing but its bytes: readers fetch what they need.

mod download;
mod expected;
mod unpack;
mod write;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use index_format::Digest;
use index_format::startup::{LeafRun, PackFrame, PackTable, StartupError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use brisk_blob::BlobError;

use super::{Account, Cause, Layer, Purpose, Resources, plan};
use unpack::{Frame, Unpacker};

pub use download::PackDownload;
pub(super) use expected::Expected;
use expected::{Expectation, Expecting};
pub use write::{MAX_PACK_LEAVES, PACK_LEVEL, PackError, write_pack};

/// Bytes of frames that are all here already are let pass rather than skipped by another
/// request, up to this many: they take less time than its round trip.
const LONGEST_GAP: u64 = 256 << 10;

/// Pieces that wait for the decoder; the link waits when it is behind.
const DECODER_QUEUE: usize = 64;

/// Why a pack was given up.
#[derive(Debug, thiserror::Error)]
pub enum PackFault {
    /// Its bytes could not be had.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Its table is not one.
    #[error(transparent)]
    Table(#[from] StartupError),
    /// It is shorter or longer than its table says.
    #[error("it has {found} bytes, its table speaks of {expected}")]
    Size {
        /// What the table says.
        expected: u64,
        /// What the blob has.
        found: u64,
    },
    /// A frame does not yield what the table says.
    #[error("frame {frame} cannot be decoded: {reason}")]
    Frame {
        /// Its number.
        frame: usize,
        /// What the decoder says.
        reason: String,
    },
    /// What a frame yields is not what the index says.
    #[error("leaf {leaf} of layer {layer} does not match its digest")]
    Leaf {
        /// The layer.
        layer: Digest,
        /// The leaf.
        leaf: u64,
    },
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// How a pack ended.
#[derive(Debug)]
pub struct PackOutcome {
    /// Why it ended early.
    pub fault: Option<PackFault>,
    /// Leaves that it has brought.
    pub leaves: u64,
    /// What it would have brought as well, as positions in the image's layers.
    pub missing: Vec<LeafRun>,
}

/// A pack on its way. Dropping it ends it.
#[derive(Debug)]
pub struct PackFetch {
    task: JoinHandle<PackOutcome>,
}

impl PackFetch {
    /// Takes the leaves of a pack into the layers of an image.
    pub fn start(
        layers: Vec<Arc<Layer>>,
        download: PackDownload,
        resources: &Arc<Resources>,
        account: &Arc<Account>,
    ) -> PackFetch {
        let purpose = Purpose::new(Cause::StartUp, account);
        let fetch = fetch(layers, download, purpose);
        PackFetch {
            task: resources.runtime.spawn(fetch),
        }
    }

    /// Waits for its end.
    pub async fn outcome(mut self) -> PackOutcome {
        let ended = (&mut self.task).await;
        ended.unwrap_or(PackOutcome {
            fault: Some(PackFault::Stopping),
            leaves: 0,
            missing: Vec::new(),
        })
    }
}

impl Drop for PackFetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a pack's table means for an image.
struct Plan {
    /// Frames in which something is missing.
    frames: Vec<(PackFrame, Frame)>,
    /// What is missing, by layer.
    expected: HashMap<usize, Expectation>,
}

async fn fetch(
    layers: Vec<Arc<Layer>>,
    mut download: PackDownload,
    purpose: Purpose,
) -> PackOutcome {
    let failed = |fault| PackOutcome {
        fault: Some(fault),
        leaves: 0,
        missing: Vec::new(),
    };
    let table = match read_table(&mut download).await {
        Ok(table) => table,
        Err(fault) => return failed(fault),
    };
    let plan = choose(&layers, &table);
    let gate = layers.first().map(|layer| layer.gate().clone());
    let expecting = Expecting::begin(&layers, plan.expected, download.progress());
    let bytes = plan
        .frames
        .iter()
        .map(|(frame, _)| frame.compressed.end - frame.compressed.start);
    let bytes: u64 = bytes.sum();
    let unpacking = bring(&mut download, plan.frames);
    let result = match gate.filter(|_| bytes > 0) {
        None => unpacking.await,
        // What is less urgent waits while the pack fills the link.
        Some(gate) => {
            let waiting = async {
                let _permit = gate.enter(&purpose, bytes).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                result = unpacking => result,
                () = waiting => Err(PackFault::Stopping),
            }
        }
    };
    if let Some(layer) = layers.first() {
        layer.count(&purpose, |counters| {
            counters.count_fetched(Cause::StartUp, download.received());
            (0..download.requests()).for_each(|_| counters.count_request(Cause::StartUp));
        });
    }
    PackOutcome {
        leaves: expecting.arrived(),
        missing: expecting.missing(),
        fault: result.err(),
    }
}

async fn read_table(download: &mut PackDownload) -> Result<PackTable, PackFault> {
    let header = download
        .peek(index_format::startup::pack::PACK_HEADER_SIZE as u64)
        .await?;
    let length = PackTable::length(&header)?;
    let table = PackTable::decode(&download.peek(length).await?)?;
    let (expected, found) = (table.size(), download.size());
    if expected != found {
        return Err(PackFault::Size { expected, found });
    }
    Ok(table)
}

/// Chooses the frames that bring something.
fn choose(layers: &[Arc<Layer>], table: &PackTable) -> Plan {
    let place = |digest: &Digest| layers.iter().position(|layer| layer.digest() == *digest);
    let places: Vec<Option<usize>> = table.layers.iter().map(place).collect();
    let mut plan = Plan {
        frames: Vec::new(),
        expected: HashMap::new(),
    };
    for frame in &table.frames {
        let mut leaves = Vec::new();
        let mut brings = false;
        let length = frame.compressed.end - frame.compressed.start;
        let count: u64 = frame.runs.iter().map(LeafRun::count).sum();
        for run in &frame.runs {
            let number = places[run.layer as usize];
            for leaf in run.leaves.clone() {
                // A layer that the image does not have, or a leaf that the layer does not have:
                // as long as any but a last one, and let pass.
                let known = number.filter(|number| leaf < layers[*number].leaf_count());
                leaves.push((known.map(|number| layers[number].clone()), leaf));
                let Some(number) = known else { continue };
                let layer = &layers[number];
                let range = plan::leaf_range(leaf, layer.index().stream_size());
                if !layer.file().has(range) {
                    brings = true;
                    let expectation = plan.expected.entry(number).or_default();
                    let part = length * leaves.len() as u64 / count.max(1);
                    expectation.insert(leaf, frame.compressed.start + part);
                }
            }
        }
        if brings {
            let compressed = length;
            plan.frames
                .push((frame.clone(), Frame { compressed, leaves }));
        }
    }
    plan
}

/// The ranges to ask for: frames with short gaps between them together.
fn segments(frames: &[(PackFrame, Frame)]) -> Vec<Range<u64>> {
    let mut segments: Vec<Range<u64>> = Vec::new();
    for (frame, _) in frames {
        match segments.last_mut() {
            Some(last) if frame.compressed.start <= last.end + LONGEST_GAP => {
                last.end = frame.compressed.end;
            }
            _ => segments.push(frame.compressed.clone()),
        }
    }
    segments
}

/// Reads the frames and hands them to the decoder, on a thread of its own.
async fn bring(
    download: &mut PackDownload,
    frames: Vec<(PackFrame, Frame)>,
) -> Result<(), PackFault> {
    let segments = segments(&frames);
    let mut ranges = Vec::with_capacity(frames.len());
    let mut work = Vec::with_capacity(frames.len());
    for (place, frame) in frames {
        ranges.push(place.compressed);
        work.push(frame);
    }
    let (send, receive) = mpsc::channel(DECODER_QUEUE);
    let unpacker = Unpacker::new(work);
    let decoder = tokio::task::spawn_blocking(move || unpacker.run(receive));
    let mut segments = segments.into_iter();
    let mut segment = segments.next();
    let mut sent = Ok(());
    'frames: for range in ranges {
        while segment
            .as_ref()
            .is_some_and(|segment| segment.end <= range.start)
        {
            segment = segments.next();
        }
        let until = segment.as_ref().map_or(range.end, |segment| segment.end);
        if let Err(error) = download.seek(range.start, until, LONGEST_GAP).await {
            sent = Err(error.into());
            break;
        }
        let mut left = range.end - range.start;
        while left > 0 {
            match download.next(left).await {
                Ok(piece) => {
                    left -= piece.len() as u64;
                    if send.send(piece).await.is_err() {
                        // The decoder has found fault, and says which.
                        break 'frames;
                    }
                }
                Err(error) => {
                    sent = Err(error.into());
                    break 'frames;
                }
            }
        }
    }
    drop(send);
    let decoded = decoder.await.unwrap_or(Err(PackFault::Stopping));
    // A decoder whose bytes did not come has nothing to say of them.
    sent.and(decoded)
}
