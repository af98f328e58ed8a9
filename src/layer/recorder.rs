//! Records which leaves of an image are touched for the first time, in order.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fuse::Piece;
use index_format::startup::MAX_LEAVES;

use super::{Layer, plan};

/// The first touches of one mount. A touch costs one look at a bit; only the first of a leaf
/// takes a lock. Nothing is noted before [`Recorder::start`] and after [`Recorder::finish`].
#[derive(Debug)]
pub struct Recorder {
    recording: AtomicBool,
    /// One bit a leaf, by layer.
    seen: Vec<Box<[AtomicU64]>>,
    touched: Mutex<Touched>,
}

#[derive(Debug)]
struct Touched {
    /// Layer and leaf in the order of their first touches.
    leaves: Vec<(u32, u64)>,
    last: Instant,
}

impl Recorder {
    /// For the layers of one image, in the order of its merged index.
    pub fn new(layers: &[Arc<Layer>]) -> Arc<Recorder> {
        let words = |layer: &Arc<Layer>| {
            let leaves = plan::leaves_of(&(0..layer.index().stream_size())).end;
            (0..leaves.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect()
        };
        Arc::new(Recorder {
            recording: AtomicBool::new(false),
            seen: layers.iter().map(words).collect(),
            touched: Mutex::new(Touched {
                leaves: Vec::new(),
                last: Instant::now(),
            }),
        })
    }

    /// Notes touches from now on.
    pub fn start(&self) {
        self.lock().last = Instant::now();
        self.recording.store(true, Ordering::Release);
    }

    /// Whether it notes touches.
    pub fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Acquire)
    }

    /// How long nothing has been touched for the first time.
    pub fn idle(&self) -> Duration {
        self.lock().last.elapsed()
    }

    /// Ends it; the leaves touched so far as (layer, leaf), in order.
    pub fn finish(&self) -> Vec<(u32, u64)> {
        self.recording.store(false, Ordering::Release);
        std::mem::take(&mut self.lock().leaves)
    }

    /// A reader wants these pieces of files.
    pub(super) fn touch(&self, pieces: &[Piece]) {
        if !self.is_recording() {
            return;
        }
        for piece in pieces {
            if let Piece::Stream {
                layer,
                offset,
                length,
            } = *piece
            {
                let range = offset.0..offset.0.saturating_add(length);
                self.touch_leaves(layer, plan::leaves_of(&range));
            }
        }
    }

    fn touch_leaves(&self, layer: u32, leaves: Range<u64>) {
        for leaf in leaves {
            if !self.see(layer, leaf) {
                continue;
            }
            let mut touched = self.lock();
            // Ended meanwhile, or nobody's start.
            if !self.is_recording() || touched.leaves.len() == MAX_LEAVES {
                return;
            }
            touched.leaves.push((layer, leaf));
            touched.last = Instant::now();
        }
    }

    /// Marks a leaf; true the first time. False for what the layer does not have.
    fn see(&self, layer: u32, leaf: u64) -> bool {
        let word = self.seen.get(layer as usize).and_then(|words| {
            let number = usize::try_from(leaf / 64).ok()?;
            words.get(number)
        });
        word.is_some_and(|word| {
            let bit = 1 << (leaf % 64);
            // Most touches are not the first: a look does not take the line from other readers.
            word.load(Ordering::Relaxed) & bit == 0
                && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
        })
    }

    fn lock(&self) -> MutexGuard<'_, Touched> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
