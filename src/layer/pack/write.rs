//! Making a pack from the layers of an image.

use std::sync::Arc;

use index_format::startup::{LeafRun, PackTable};
use index_format::{Digest, LEAF_SIZE};

use crate::{Account, Layer, ReadError, plan};

/// The level at which packs are compressed: they are made once and fetched often.
pub const PACK_LEVEL: i32 = 19;

/// Leaves of a pack: 2 GiB. What comes after so much is not waited for at a start.
pub const MAX_PACK_LEAVES: u64 = 32_768;

/// Leaves of a frame: 8 MiB, so that little is lost against one frame for all.
const FRAME_LEAVES: u64 = 128;

/// Why a pack cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A leaf cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The compressor failed.
    #[error("compressing a pack: {0}")]
    Compress(#[from] std::io::Error),
    /// Nothing would be in it.
    #[error("the start-up set has no leaf of this image")]
    Empty,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// Makes the pack of a start-up set, whose runs name layers by their position in `digests`; what
/// is missing in the cache is fetched for that account. `on_bytes` is told of every compressed frame, in
/// uncompressed bytes.
///
/// # Errors
/// See [`PackError`].
pub async fn write_pack(
    layers: &[Arc<Layer>],
    account: &Arc<Account>,
    digests: &[Digest],
    runs: &[LeafRun],
    level: i32,
    on_bytes: impl Fn(u64),
) -> Result<(PackTable, Vec<u8>), PackError> {
    let place = |digest: &Digest| layers.iter().find(|layer| layer.digest() == *digest);
    let places: Vec<Option<&Arc<Layer>>> = digests.iter().map(place).collect();
    let mut leaves = Vec::new();
    for run in runs {
        let Some(Some(layer)) = places.get(run.layer as usize) else {
            continue;
        };
        let there = run.leaves.start..run.leaves.end.min(layer.leaf_count());
        leaves.extend(there.map(|leaf| (run.layer, leaf)));
    }
    leaves.truncate(MAX_PACK_LEAVES as usize);
    if leaves.is_empty() {
        return Err(PackError::Empty);
    }
    let (mut frames, mut content) = (Vec::new(), Vec::new());
    let mut compressing: Option<Compressing> = None;
    for group in leaves.chunks(FRAME_LEAVES as usize) {
        let runs = index_format::startup::runs(group.iter().copied());
        let mut bytes = Vec::with_capacity(group.len() * LEAF_SIZE as usize);
        for run in &runs {
            let Some(layer) = places[run.layer as usize] else {
                continue;
            };
            let size = layer.index().stream_size();
            let start = plan::leaf_range(run.leaves.start, size).start;
            let end = plan::leaf_range(run.leaves.end - 1, size).end;
            bytes.extend_from_slice(&layer.read_for(account, start, end - start).await?);
        }
        // One frame is compressed while the next one is read and begun.
        let next = Compressing::start(runs, bytes, level);
        if let Some(before) = compressing.replace(next) {
            before.finish(&mut frames, &mut content, &on_bytes).await?;
        }
    }
    if let Some(last) = compressing {
        last.finish(&mut frames, &mut content, &on_bytes).await?;
    }
    let table = PackTable::new(digests.to_vec(), frames);
    let mut pack = table.encode();
    pack.extend_from_slice(&content);
    Ok((table, pack))
}

struct Compressing {
    runs: Vec<LeafRun>,
    length: u64,
    task: tokio::task::JoinHandle<std::io::Result<Vec<u8>>>,
}

impl Compressing {
    fn start(runs: Vec<LeafRun>, bytes: Vec<u8>, level: i32) -> Compressing {
        let length = bytes.len() as u64;
        let compress = move || {
            let mut compressor = zstd::bulk::Compressor::new(level)?;
            // The leaves have digests of their own.
            compressor.include_checksum(false)?;
            compressor.compress(&bytes)
        };
        Compressing {
            runs,
            length,
            task: tokio::task::spawn_blocking(compress),
        }
    }

    async fn finish(
        self,
        frames: &mut Vec<(u32, Vec<LeafRun>)>,
        content: &mut Vec<u8>,
        on_bytes: &impl Fn(u64),
    ) -> Result<(), PackError> {
        let frame = self.task.await.map_err(|_| PackError::Stopping)??;
        // A frame has at most a few percent more than its leaves: below 2^32 by far.
        frames.push((frame.len() as u32, self.runs));
        content.extend_from_slice(&frame);
        on_bytes(self.length);
        Ok(())
    }
}
