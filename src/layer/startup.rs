//! Bringing what a start is going to read, in the order in which earlier starts read it.

use std::collections::HashSet;
use std::sync::Arc;

use index_format::startup::LeafRun;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::fetch::Start;
use super::plan::{self, Run};
use super::{Account, Cause, Layer, PackDownload, PackFetch, Purpose, Resources};

/// Compressed bytes within which the order of chunks is given up, so that neighbours are asked
/// for together: they arrive before anybody has got through them.
const WINDOW: u64 = 4 << 20;

/// Runs whose bytes have not all arrived: one arriving, the others asked for.
const MAX_DOWNLOADING: usize = 4;

/// What a start needs, on its way. Dropping it sends no further request.
#[derive(Debug)]
pub struct StartupFetch {
    task: JoinHandle<()>,
}

impl StartupFetch {
    /// Brings the leaves of a pack, then those of `runs`, whose layers are positions in
    /// `layers`; where the pack breaks, the rest of it is fetched as chunks. The account is guided
    /// from now on, until its owner says that the program is ready.
    pub fn start(
        layers: Vec<Arc<Layer>>,
        pack: Option<PackDownload>,
        mut runs: Vec<LeafRun>,
        resources: &Arc<Resources>,
        account: &Arc<Account>,
    ) -> StartupFetch {
        let purpose = Purpose::new(Cause::StartUp, account);
        account.guide(true);
        let pack =
            pack.map(|download| PackFetch::start(layers.clone(), download, resources, account));
        let task = resources.runtime.spawn(async move {
            if let Some(pack) = pack {
                let outcome = pack.outcome().await;
                match outcome.fault {
                    None => tracing::info!(leaves = outcome.leaves, "a pack has arrived"),
                    Some(fault) => {
                        let leaves = outcome.leaves;
                        tracing::warn!(%fault, leaves, "a pack is of no use; fetching without it");
                        if outcome.missing.is_empty() && runs.is_empty() {
                            purpose.account.guide(false);
                        }
                        if !outcome.missing.is_empty() {
                            runs = outcome.missing;
                        }
                    }
                }
            }
            fetch(&layers, &runs, &purpose).await;
        });
        StartupFetch { task }
    }

    /// Whether everything has been asked for.
    pub fn is_done(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until everything has been asked for.
    pub async fn asked(mut self) {
        // An error means that the service is stopping.
        drop((&mut self.task).await);
    }
}

impl Drop for StartupFetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn fetch(layers: &[Arc<Layer>], runs: &[LeafRun], purpose: &Purpose) {
    let places = Arc::new(Semaphore::new(MAX_DOWNLOADING));
    for window in windows(&in_order(layers, runs)) {
        for (number, run) in window {
            let layer = &layers[number];
            let lacks = run.chunks.iter().any(|chunk| layer.lacks(chunk));
            if !lacks || layer.must_be_streamed() {
                continue;
            }
            // Never closed.
            let place = places.clone().acquire_owned().await.ok();
            let bytes = layer.first_piece_bytes(Cause::StartUp, &run.compressed());
            let permit = layer.gate().enter(purpose, bytes).await;
            if let Some(flight) = layer.flights().claim(run) {
                let start = Some(Start { permit, place });
                let fly = layer.clone().fly(flight, purpose.clone(), start);
                layer.resources().runtime.spawn(fly);
            }
        }
    }
}

/// The chunks that hold the leaves and are missing, each once, in the order of the leaves.
fn in_order(layers: &[Arc<Layer>], runs: &[LeafRun]) -> Vec<(usize, index_format::Chunk)> {
    let mut ordered = Vec::new();
    let mut known = HashSet::new();
    for run in runs {
        let number = run.layer as usize;
        let Some(layer) = layers.get(number) else {
            continue;
        };
        let size = layer.index().stream_size();
        let leaves = run.leaves.start..run.leaves.end.min(layer.leaf_count());
        for leaf in leaves {
            let range = plan::leaf_range(leaf, size);
            if layer.file().has(range.clone()) {
                continue;
            }
            let numbers = plan::chunks_of(layer.index(), &range);
            for chunk in numbers.unwrap_or_default() {
                if known.insert((number, chunk))
                    && let Ok(chunk) = layer.chunk(chunk)
                    && plan::is_fetchable(&chunk)
                {
                    ordered.push((number, chunk));
                }
            }
        }
    }
    ordered
}

/// Divides the chunks into windows, and those of a window into runs of neighbours, the one that
/// is needed first at the front.
fn windows(ordered: &[(usize, index_format::Chunk)]) -> Vec<Vec<(usize, Run)>> {
    let mut windows = Vec::new();
    let mut rest = ordered;
    while !rest.is_empty() {
        let mut bytes = 0;
        let length = rest.iter().take_while(|(_, chunk)| {
            let before = bytes;
            bytes += chunk.compressed.end.saturating_sub(chunk.compressed.start);
            before < WINDOW
        });
        let (window, later) = rest.split_at(length.count());
        rest = later;
        let mut layers: Vec<usize> = window.iter().map(|(number, _)| *number).collect();
        layers.sort_unstable();
        layers.dedup();
        let mut runs = Vec::new();
        for layer in layers {
            let chunks = window.iter().filter(|(number, _)| *number == layer);
            let mut chunks: Vec<_> = chunks.map(|(_, chunk)| chunk.clone()).collect();
            chunks.sort_by_key(|chunk| chunk.number);
            runs.extend(
                plan::runs(chunks, WINDOW)
                    .into_iter()
                    .map(|run| (layer, run)),
            );
        }
        let first = |layer: usize, run: &Run| {
            let is_in = |(number, chunk): &(usize, index_format::Chunk)| {
                *number == layer && run.numbers().any(|own| own == chunk.number)
            };
            window.iter().position(is_in)
        };
        runs.sort_by_key(|(layer, run)| first(*layer, run));
        windows.push(runs);
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::{WINDOW, windows};
    use index_format::{Chunk, ChunkFlags};

    fn chunk(number: u32) -> Chunk {
        let at = u64::from(number) << 20;
        Chunk {
            number,
            stream: at * 3..(at + (1 << 20)) * 3,
            compressed: at..at + (1 << 20),
            bit: 0,
            flags: ChunkFlags::default(),
            checkpoint: 0..0,
        }
    }

    #[test]
    fn neighbours_within_a_window_are_one_request_and_windows_keep_the_order() {
        assert_eq!(WINDOW, 4 << 20);
        let order = [
            (1, 7),
            (0, 3),
            (1, 5),
            (1, 6),
            (0, 9),
            (1, 8),
            (0, 4),
            (0, 2),
        ];
        let ordered: Vec<_> = order.iter().map(|(l, n)| (*l, chunk(*n))).collect();
        let shown: Vec<Vec<(usize, Vec<u32>)>> = windows(&ordered)
            .iter()
            .map(|window| {
                window
                    .iter()
                    .map(|(l, run)| (*l, run.numbers().collect()))
                    .collect()
            })
            .collect();
        let expected = vec![
            vec![(1, vec![5, 6, 7]), (0, vec![3])],
            vec![(0, vec![9]), (1, vec![8]), (0, vec![4]), (0, vec![2])],
        ];
        assert_eq!(shown, expected);
    }
}
