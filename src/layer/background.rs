//! Bringing the rest of an image while nobody waits for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::fetch::Start;
use super::flight::{Flight, Landing, Outcome};
use super::{Account, Cause, Closing, Layer, Purpose, ReadError, Resources};

/// Runs fetched or decoded at a time: some arriving, some being decoded, the next one asked for.
const MAX_RUNS: usize = 8;

/// Of these, those whose bytes have not all arrived: enough to fill the link with runs of one
/// chunk. With more, each would finish late, waiting for the others.
const MAX_DOWNLOADING: usize = 3;

/// Stands for all chunks of a layer that is decoded from its start.
const STREAMED: u32 = u32::MAX;

/// The pause after a failed request doubles from this ...
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// ... up to this.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How much of an image is fetched without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackgroundMode {
    /// All of it, within the cache's budget.
    #[default]
    Full,
    /// What can be had before the workload is ready: for metered links and small disks.
    UntilReady,
    /// Nothing.
    Off,
}

/// How a background fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackgroundOutcome {
    /// Every layer is complete.
    Complete,
    /// The budget has no room for the rest.
    NoRoom,
    /// It was stopped, or never to run.
    Stopped,
    /// Some chunks arrive corrupt, however often they are fetched.
    Corrupt,
}

/// A background fetch. Dropping it stops it.
#[derive(Debug)]
pub struct BackgroundFetch {
    mode: BackgroundMode,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<BackgroundOutcome>>,
}

impl BackgroundFetch {
    /// Starts fetching what is missing of these layers, in order. A layer that is complete is
    /// closed: compared with its diff ID and its index. With `Full`, those that cannot be
    /// completed are closed last, by letting their bytes pass once more.
    pub fn start(
        layers: Vec<Arc<Layer>>,
        mode: BackgroundMode,
        resources: &Arc<Resources>,
        account: &Arc<Account>,
    ) -> BackgroundFetch {
        let (stop, stopped) = watch::channel(false);
        let task = match mode {
            BackgroundMode::Off => None,
            BackgroundMode::Full | BackgroundMode::UntilReady => {
                let purpose = Purpose::new(Cause::Background, account);
                let fetcher = Fetcher::new(layers, mode, purpose, stopped);
                Some(resources.runtime.spawn(fetcher.run()))
            }
        };
        BackgroundFetch { mode, stop, task }
    }

    /// The workload is ready: with `UntilReady` the fetch ends here.
    pub fn ready(&self) {
        if self.mode == BackgroundMode::UntilReady {
            self.stop();
        }
    }

    /// Sends no further request. What is on its way is still kept.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the end.
    pub async fn outcome(mut self) -> BackgroundOutcome {
        match self.task.take() {
            Some(task) => task.await.unwrap_or(BackgroundOutcome::Stopped),
            None => BackgroundOutcome::Stopped,
        }
    }
}

impl Drop for BackgroundFetch {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// What became of one run.
struct Report {
    layer: usize,
    chunks: Vec<u32>,
    ended: Ended,
}

/// How it ended.
enum Ended {
    Decoded { no_room: bool, is_right: bool },
    Failed(ReadError),
    GivenUp,
}

struct Fetcher {
    layers: Vec<Arc<Layer>>,
    mode: BackgroundMode,
    purpose: Purpose,
    stopped: watch::Receiver<bool>,
    running: JoinSet<Report>,
    /// Places for runs whose bytes have not all arrived.
    downloading: Arc<Semaphore>,
    /// Chunks that arrived corrupt, by layer.
    corrupt: HashSet<(usize, u32)>,
    /// What to wait after the next failure; longer from one to the next.
    pause: Duration,
    /// A request has failed since the last pause.
    failed: bool,
    no_room: bool,
    /// A run has ended well since the pass began.
    progress: bool,
}

impl Fetcher {
    fn new(
        layers: Vec<Arc<Layer>>,
        mode: BackgroundMode,
        purpose: Purpose,
        stopped: watch::Receiver<bool>,
    ) -> Fetcher {
        Fetcher {
            layers,
            mode,
            purpose,
            stopped,
            running: JoinSet::new(),
            downloading: Arc::new(Semaphore::new(MAX_DOWNLOADING)),
            corrupt: HashSet::new(),
            pause: FIRST_PAUSE,
            failed: false,
            no_room: false,
            progress: false,
        }
    }

    async fn run(mut self) -> BackgroundOutcome {
        let mut stopped = self.stopped.clone();
        let outcome = tokio::select! {
            outcome = self.fetch_and_close() => outcome,
            // An error means that the owner is gone.
            _ = stopped.wait_for(|stopped| *stopped) => BackgroundOutcome::Stopped,
        };
        // Requests on their way are answered and kept.
        self.running.detach_all();
        outcome
    }

    /// Fetches what the cache takes, then closes what has not arrived whole. Where fetching was
    /// to be short, it is.
    async fn fetch_and_close(&mut self) -> BackgroundOutcome {
        let outcome = self.run_passes().await;
        while self.settle_one().await {}
        if outcome != BackgroundOutcome::Complete {
            self.close_complete().await;
        }
        if self.mode == BackgroundMode::Full {
            self.close_in_passing().await;
        }
        let poisoned = |layer: &Arc<Layer>| layer.closing() == Closing::Poisoned;
        match self.layers.iter().any(poisoned) {
            true => BackgroundOutcome::Corrupt,
            false => outcome,
        }
    }

    /// Goes over all layers until nothing is missing. More than one pass is needed where
    /// requests failed, or where the parts of divided leaves did not stay in memory.
    async fn run_passes(&mut self) -> BackgroundOutcome {
        loop {
            self.progress = false;
            let mut asked = 0;
            for layer in 0..self.layers.len() {
                asked += self.pass(layer).await;
                if self.no_room {
                    return BackgroundOutcome::NoRoom;
                }
            }
            while self.settle_one().await {}
            if self.no_room {
                return BackgroundOutcome::NoRoom;
            }
            self.close_complete().await;
            let poisoned = |layer: &Arc<Layer>| layer.closing() == Closing::Poisoned;
            let done = |layer: &Arc<Layer>| layer.file().is_complete() || poisoned(layer);
            if self.layers.iter().all(done) {
                return BackgroundOutcome::Complete;
            }
            if asked == 0 && !self.corrupt.is_empty() {
                return BackgroundOutcome::Corrupt;
            }
            if !self.progress {
                self.rest().await;
            }
        }
    }

    /// Waits for better times, longer each time.
    async fn rest(&mut self) {
        self.failed = false;
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Asks for everything that one layer lacks; says how many runs that were.
    async fn pass(&mut self, number: usize) -> u32 {
        let layer = self.layers[number].clone();
        if layer.must_be_streamed() {
            return self.stream(number, &layer).await;
        }
        let (mut next, end) = (0, layer.index().chunk_count());
        let mut asked = 0;
        loop {
            while self.running.len() >= MAX_RUNS {
                self.settle_one().await;
            }
            // Chosen as late as can be: readers change what is likely to be read.
            // Never closed.
            let place = self.downloading.clone().acquire_owned().await.ok();
            let wanted = match self.next_warm().await {
                Some(warm) => Some(warm),
                None => {
                    let chunks = self.next_missing(number, &layer, &mut next, end).await;
                    chunks.map(|chunks| (number, chunks))
                }
            };
            let Some((number, chunks)) = wanted.filter(|_| !self.no_room) else {
                break;
            };
            asked += 1;
            self.fetch(number, chunks, place).await;
            // What has ended meanwhile.
            while let Some(Ok(report)) = self.running.try_join_next() {
                self.settle(report);
            }
            if self.failed {
                self.rest().await;
            }
        }
        asked
    }

    /// Brings what a layer lacks in one passage from its start; says how many steps it took.
    async fn stream(&mut self, number: usize, layer: &Arc<Layer>) -> u32 {
        let mut asked = 0;
        let mut next = 0;
        // A leaf that stays wrong is not asked for in every pass.
        while layer.closing() != Closing::Poisoned && !self.corrupt.contains(&(number, STREAMED)) {
            match layer.stream_on(&self.purpose.account, next).await {
                Ok(None) => break,
                Ok(Some(seen)) => {
                    self.progress = true;
                    self.no_room |= seen.no_room;
                    next = seen.next.max(next + 1);
                    if !seen.wrong.is_empty() {
                        self.corrupt.insert((number, STREAMED));
                    }
                }
                Err(error) if error.is_unavailable() => {
                    tracing::debug!(%error, pause = ?self.pause, "background pauses");
                    self.rest().await;
                }
                Err(error) => {
                    tracing::warn!(%error, "background gives up on a layer");
                    self.corrupt.insert((number, STREAMED));
                }
            }
            asked += 1;
            if self.no_room {
                break;
            }
        }
        asked
    }

    /// The next chunks that are missing behind what readers have asked for, the latest first.
    async fn next_warm(&self) -> Option<(usize, Vec<u32>)> {
        loop {
            let latest = |number: &usize| self.layers[*number].warmth().latest();
            let number = (0..self.layers.len()).max_by_key(latest)?;
            let layer = &self.layers[number];
            let mut place = layer.warmth().take()?;
            if layer.lost_checkpoints().get().is_some() {
                continue;
            }
            let end = place.end.min(layer.index().chunk_count());
            let chunks = self.next_missing(number, layer, &mut place.next, end).await;
            match chunks {
                Some(chunks) => {
                    layer.warmth().put_back(place);
                    return Some((number, chunks));
                }
                None => continue,
            }
        }
    }

    /// The next chunks before `end` that are missing, as many neighbours as make one request.
    async fn next_missing(
        &self,
        number: usize,
        layer: &Arc<Layer>,
        next: &mut u32,
        end: u32,
    ) -> Option<Vec<u32>> {
        if layer.closing() == Closing::Poisoned {
            return None;
        }
        let limit = layer.gate().request_bytes();
        let mut chunks = Vec::new();
        let mut start = 0;
        while *next < end {
            let chunk = layer.chunk(*next).ok()?;
            // What an unclean stop has left is verified rather than fetched again.
            layer.confirm_off_the_reactor(chunk.stream.clone()).await;
            let wanted = layer.is_fetchable(&chunk)
                && !self.corrupt.contains(&(number, chunk.number))
                && !layer.flights().contains(chunk.number)
                && layer.lacks(&chunk);
            match (wanted, chunks.is_empty()) {
                (true, true) => start = chunk.compressed.start,
                (true, false) if chunk.compressed.end.saturating_sub(start) > limit => break,
                (true, false) => {}
                (false, true) => {
                    *next += 1;
                    continue;
                }
                (false, false) => break,
            }
            chunks.push(chunk.number);
            *next += 1;
        }
        (!chunks.is_empty()).then_some(chunks)
    }

    /// Starts fetching chunks when the gate allows it.
    async fn fetch(
        &mut self,
        number: usize,
        chunks: Vec<u32>,
        mut place: Option<OwnedSemaphorePermit>,
    ) {
        let layer = self.layers[number].clone();
        let Ok(runs) = layer.runs(chunks, u64::MAX) else {
            return;
        };
        for run in runs {
            let place = place.take();
            let bytes = layer.first_piece_bytes(Cause::Background, &run.compressed());
            let permit = layer.gate().enter(&self.purpose, bytes).await;
            // Only now, so that no reader waits for something that waits for readers.
            if let Some(flight) = layer.flights().claim(run) {
                self.spawn(number, &layer, flight, Start { permit, place });
            }
        }
    }

    fn spawn(&mut self, number: usize, layer: &Arc<Layer>, flight: Flight, start: Start) {
        let chunks = flight.run.numbers().collect();
        let landing = flight.landing();
        let fly = layer.clone().fly(flight, self.purpose.clone(), Some(start));
        self.running.spawn(async move {
            let (outcome, ()) = futures_util::future::join(Landing::outcome(landing), fly).await;
            // Without the bytes: they are in the cache, and others wait for the memory.
            let ended = match outcome {
                Outcome::Decoded(run) => Ended::Decoded {
                    no_room: run.no_room,
                    is_right: run.wrong().next().is_none(),
                },
                Outcome::Failed(_, error) => Ended::Failed(error),
                Outcome::GivenUp => Ended::GivenUp,
            };
            Report {
                layer: number,
                chunks,
                ended,
            }
        });
    }

    /// Waits for one run to end; false when none is running.
    async fn settle_one(&mut self) -> bool {
        match self.running.join_next().await {
            Some(Ok(report)) => {
                self.settle(report);
                true
            }
            Some(Err(_)) => true,
            None => false,
        }
    }

    fn settle(&mut self, report: Report) {
        match report.ended {
            Ended::Decoded { no_room, is_right } => {
                self.no_room |= no_room;
                if is_right {
                    self.pause = FIRST_PAUSE;
                    self.progress = true;
                    return;
                }
                let corrupt = report.chunks.into_iter().map(|chunk| (report.layer, chunk));
                self.corrupt.extend(corrupt);
            }
            // The next pass decodes the layer from its start.
            Ended::Failed(error) if error.asks_for_streaming() => self.progress = true,
            Ended::Failed(error) if error.is_unavailable() => {
                self.failed = true;
                tracing::debug!(%error, pause = ?self.pause, "background pauses");
            }
            Ended::Failed(error) => {
                tracing::warn!(%error, "background gives up on some chunks");
                let failed = report.chunks.into_iter().map(|chunk| (report.layer, chunk));
                self.corrupt.extend(failed);
            }
            Ended::GivenUp => {}
        }
    }

    /// Closes the layers that are complete now.
    async fn close_complete(&self) {
        for layer in self.undecided().filter(|layer| layer.file().is_complete()) {
            let (digest, layer) = (layer.digest(), layer.clone());
            let closed = tokio::task::spawn_blocking(move || layer.close()).await;
            match closed {
                Ok(Ok(closing)) => tracing::info!(layer = %digest, ?closing, "compared"),
                Ok(Err(error)) => tracing::debug!(%error, "not closed"),
                Err(_) => {}
            }
        }
    }

    /// Closes the others.
    async fn close_in_passing(&self) {
        for layer in self.undecided().filter(|layer| !layer.file().is_complete()) {
            let digest = layer.digest();
            match layer.close_in_passing(&self.purpose).await {
                Ok(closing) => tracing::info!(layer = %digest, ?closing, "compared in passing"),
                Err(error) => tracing::warn!(%error, "not closed"),
            }
        }
    }

    /// Layers that are not closed and can be.
    fn undecided(&self) -> impl Iterator<Item = &Arc<Layer>> {
        self.layers.iter().filter(|layer| {
            layer.closing() == Closing::Unclosed && !layer.index().features().is_toc_layout()
        })
    }
}
