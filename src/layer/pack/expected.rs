//! Leaves that a pack is about to bring, and readers that wait for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use index_format::startup::{LeafRun, runs};
use tokio::sync::Notify;

use crate::Layer;

/// A reader waits for a leaf that comes within this many bytes of the pack, or within this time
/// at the pace at which the pack comes; else it fetches: that takes a round trip and a chunk's
/// bytes, which the pack would be late by.
const NEAR_BYTES: u64 = 1 << 20;
/// See [`NEAR_BYTES`].
const NEAR_TIME: Duration = Duration::from_millis(500);

/// No reader waits longer for a pack ...
const WAIT_LIMIT: Duration = Duration::from_secs(2);
/// ... or for one of which nothing has come for so long.
const SILENCE_LIMIT: Duration = Duration::from_secs(1);

/// Leaves and about where in the pack the bytes of each end.
pub(crate) type Expectation = HashMap<u64, u64>;

/// How far a download is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    received: AtomicU64,
    requests: AtomicU64,
    /// Where in the blob the latest bytes end.
    position: AtomicU64,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    first_byte: Option<Instant>,
    /// When something came, or was asked for.
    last: Option<Instant>,
}

impl Progress {
    pub(super) fn receive(&self, bytes: u64, position: u64) {
        let mut times = self.times();
        let now = Instant::now();
        times.first_byte.get_or_insert(now);
        times.last = Some(now);
        drop(times);
        self.position.store(position, Ordering::Relaxed);
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It goes on.
    fn touch(&self) {
        self.times().last = Some(Instant::now());
    }

    pub(super) fn request(&self) {
        self.touch();
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait yet before it is taken to have come to a halt.
    fn patience(&self) -> Duration {
        let last = self.times().last;
        last.map_or(Duration::ZERO, |last| {
            SILENCE_LIMIT.saturating_sub(last.elapsed())
        })
    }

    /// Bytes that are worth waiting for.
    fn near(&self) -> u64 {
        let first = self.times().first_byte;
        let elapsed = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
        // Of the first moments nothing can be said.
        let rate = match elapsed > 0.05 {
            true => self.received() as f64 / elapsed,
            false => 0.0,
        };
        NEAR_BYTES.max((rate * NEAR_TIME.as_secs_f64()) as u64)
    }
}

/// What a pack is about to bring of one layer.
#[derive(Debug)]
pub(crate) struct Expected {
    leaves: Mutex<Expectation>,
    progress: Arc<Progress>,
    arrived: AtomicU64,
    changed: Notify,
}

impl Expected {
    fn new(leaves: Expectation, progress: Arc<Progress>) -> Arc<Expected> {
        Arc::new(Expected {
            leaves: Mutex::new(leaves),
            progress,
            arrived: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Expectation> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leaf is stored.
    pub(super) fn arrive(&self, leaf: u64) {
        if self.lock().remove(&leaf).is_some() {
            self.progress.touch();
            self.arrived.fetch_add(1, Ordering::Relaxed);
            self.changed.notify_waiters();
        }
    }

    /// Nothing more comes; what would have, by its place in the pack.
    fn end(&self) -> Vec<(u64, u64)> {
        let rest = std::mem::take(&mut *self.lock());
        self.changed.notify_waiters();
        rest.into_iter()
            .map(|(leaf, place)| (place, leaf))
            .collect()
    }

    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    pub(crate) fn has(&self, leaf: u64) -> bool {
        self.lock().contains_key(&leaf)
    }

    /// Where the last of the leaves is, if all of those that have not arrived are still to come.
    fn place(&self, leaves: &[u64], is_here: impl Fn(u64) -> bool) -> Option<u64> {
        let expected = self.lock();
        let mut last = None;
        for leaf in leaves.iter().filter(|leaf| !is_here(**leaf)) {
            last = last.max(Some(*expected.get(leaf)?));
        }
        last
    }
}

/// What a pack is about to bring of an image's layers. Dropped, it brings no more.
pub(super) struct Expecting {
    /// With the layers' positions in the image.
    layers: Vec<(u32, Arc<Layer>, Arc<Expected>)>,
}

impl Expecting {
    pub(super) fn begin(
        layers: &[Arc<Layer>],
        expectations: HashMap<usize, Expectation>,
        progress: &Arc<Progress>,
    ) -> Expecting {
        let begin = |(number, leaves): (usize, Expectation)| {
            let (layer, expected) = (&layers[number], Expected::new(leaves, progress.clone()));
            layer.expect(&expected);
            (number as u32, layer.clone(), expected)
        };
        Expecting {
            layers: expectations.into_iter().map(begin).collect(),
        }
    }

    /// Leaves that it has brought.
    pub(super) fn arrived(&self) -> u64 {
        self.layers
            .iter()
            .map(|(_, _, expected)| expected.arrived())
            .sum()
    }

    /// What has not come, in the order in which it would have. Nothing more comes.
    pub(super) fn missing(&self) -> Vec<LeafRun> {
        let mut missing = Vec::new();
        for (number, _, expected) in &self.layers {
            let rest = expected.end().into_iter();
            missing.extend(rest.map(|(place, leaf)| (place, *number, leaf)));
        }
        missing.sort_unstable();
        runs(missing.into_iter().map(|(_, layer, leaf)| (layer, leaf)))
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        for (_, layer, expected) in &self.layers {
            layer.expect_no_more(expected);
            expected.end();
        }
    }
}

impl Layer {
    /// A pack brings leaves from now on.
    fn expect(&self, expected: &Arc<Expected>) {
        *self.expected_slot() = Some(expected.clone());
    }

    /// It brings no more.
    fn expect_no_more(&self, expected: &Arc<Expected>) {
        let mut slot = self.expected_slot();
        if slot
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(other, expected))
        {
            *slot = None;
        }
    }

    fn expected(&self) -> Option<Arc<Expected>> {
        self.expected_slot().clone()
    }

    /// Whether a pack is about to bring a leaf.
    pub(crate) fn expects(&self, leaf: u64) -> bool {
        self.expected_slot()
            .as_ref()
            .is_some_and(|expected| expected.has(leaf))
    }

    /// A pack's leaf, which matches its digest, is stored.
    pub(super) fn arrive(&self, leaf: u64) {
        if let Some(expected) = self.expected() {
            expected.arrive(leaf);
        }
    }

    /// Waits until a pack has brought the leaves, as long as that promises to be sooner than
    /// fetching them.
    pub(crate) async fn wait_for_pack(&self, leaves: &[u64]) {
        let Some(expected) = self.expected() else {
            return;
        };
        let size = self.index().stream_size();
        let is_here = |leaf| self.file().has(crate::plan::leaf_range(leaf, size));
        let wait = async {
            loop {
                let changed = expected.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let Some(place) = expected.place(leaves, is_here) else {
                    return;
                };
                let distance = place.saturating_sub(expected.progress.position());
                if distance > expected.progress.near() {
                    return;
                }
                let patience = expected.progress.patience();
                if patience.is_zero() {
                    return;
                }
                // Late or not, the next look decides.
                drop(tokio::time::timeout(patience, changed).await);
            }
        };
        // Late or not, whoever waited goes on.
        drop(tokio::time::timeout(WAIT_LIMIT, wait).await);
    }
}
