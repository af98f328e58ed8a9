//! What each start of a container has cost so far: kept while it holds its image, and for the
//! last few that have let go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::daemon::control::{CauseTimeline, StartTimeline};
use brisk_image::Observer;
use brisk_layer::{Cause, Counters, ImageContent, Phase};

/// Containers that have let go of their image and are still told of: a client asks within
/// moments of its container's end.
const ENDED: usize = 16;

/// When the parts of an acquisition were done.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    asked: Instant,
    described: Instant,
    resolved: Instant,
    mounted: Instant,
}

/// Notes when an image's documents were there, and passes everything on.
pub struct Stopwatch {
    asked: Instant,
    described: Mutex<Option<Instant>>,
    observer: Arc<dyn Observer>,
}

impl Stopwatch {
    /// Begins now.
    pub fn start(observer: Arc<dyn Observer>) -> Arc<Self> {
        Arc::new(Stopwatch {
            asked: Instant::now(),
            described: Mutex::default(),
            observer,
        })
    }

    /// The image is mounted, after it was resolved at `resolved`.
    pub fn mounted(&self, resolved: Instant) -> Marks {
        let described = *lock(&self.described);
        Marks {
            asked: self.asked,
            // An image that the root knows needs no documents from elsewhere.
            described: described.unwrap_or(self.asked),
            resolved,
            mounted: Instant::now(),
        }
    }
}

impl Observer for Stopwatch {
    fn warn(&self, message: String) {
        self.observer.warn(message);
    }

    fn described(&self) {
        lock(&self.described).get_or_insert_with(Instant::now);
    }

    fn pulling(&self, bytes: u64) {
        self.observer.pulling(bytes);
    }

    fn pulled(&self, bytes: u64) {
        self.observer.pulled(bytes);
    }
}

enum State {
    /// Counts on; what had been done for the image before.
    Holds(Arc<ImageContent>, Box<StartTimeline>),
    Ended(Box<StartTimeline>),
}

struct Entry {
    container: String,
    marks: Marks,
    state: State,
}

/// The starts of a service.
#[derive(Default)]
pub struct Timelines {
    entries: Mutex<VecDeque<Entry>>,
}

impl Timelines {
    /// A container has got its image.
    pub fn begin(&self, container: &str, marks: Marks, content: Arc<ImageContent>, shared: bool) {
        // A mount of its own has read nothing before that is not this start's.
        let before = match shared {
            true => counted(&content),
            false => StartTimeline::default(),
        };
        let mut entries = lock(&self.entries);
        entries.retain(|entry| entry.container != container);
        entries.push_back(Entry {
            container: container.to_owned(),
            marks,
            state: State::Holds(content, Box::new(before)),
        });
    }

    /// A container lets go of its image.
    pub fn end(&self, container: &str) {
        let mut entries = lock(&self.entries);
        for entry in entries.iter_mut().filter(|e| e.container == container) {
            let timeline = entry.timeline();
            entry.state = State::Ended(Box::new(timeline));
        }
        let is_ended = |entry: &Entry| matches!(entry.state, State::Ended(_));
        while entries.iter().filter(|entry| is_ended(entry)).count() > ENDED {
            let Some(oldest) = entries.iter().position(is_ended) else {
                return;
            };
            entries.remove(oldest);
        }
    }

    /// What a container's start has cost so far.
    pub fn of(&self, container: &str) -> Option<StartTimeline> {
        let entries = lock(&self.entries);
        let entry = entries.iter().find(|e| e.container == container)?;
        Some(entry.timeline())
    }
}

impl Entry {
    fn timeline(&self) -> StartTimeline {
        let (content, before) = match &self.state {
            State::Ended(timeline) => return (**timeline).clone(),
            State::Holds(content, before) => (content, before),
        };
        let now = counted(content);
        let less = |now: &CauseTimeline, before: &CauseTimeline| CauseTimeline {
            cause: now.cause.clone(),
            bytes: now.bytes.saturating_sub(before.bytes),
            requests: now.requests.saturating_sub(before.requests),
        };
        let before_of = |cause: &CauseTimeline| {
            let same = before.causes.iter().find(|b| b.cause == cause.cause);
            same.cloned().unwrap_or_default()
        };
        let marks = &self.marks;
        StartTimeline {
            resolve_us: micros(marks.described - marks.asked),
            index_us: micros(marks.resolved - marks.described),
            mount_us: micros(marks.mounted - marks.resolved),
            causes: now.causes.iter().map(|c| less(c, &before_of(c))).collect(),
            wasted_bytes: now.wasted_bytes.saturating_sub(before.wasted_bytes),
            missing_reads: now.missing_reads.saturating_sub(before.missing_reads),
            stalled_us: now.stalled_us.saturating_sub(before.stalled_us),
            queue_us: now.queue_us.saturating_sub(before.queue_us),
            network_us: now.network_us.saturating_sub(before.network_us),
            decode_us: now.decode_us.saturating_sub(before.decode_us),
        }
    }
}

/// What has been done for an image.
fn counted(content: &ImageContent) -> StartTimeline {
    let counters: &Counters = content.account().counters();
    let phase = |phase| micros(counters.demand_time(phase));
    StartTimeline {
        causes: Cause::ALL
            .iter()
            .map(|cause| CauseTimeline {
                cause: cause.name().to_owned(),
                bytes: counters.fetched_bytes(*cause),
                requests: counters.requests(*cause),
            })
            .collect(),
        wasted_bytes: content.layers().iter().map(|l| l.wasted_bytes()).sum(),
        missing_reads: counters.missing_reads(),
        stalled_us: micros(counters.stalled()),
        queue_us: phase(Phase::Queue),
        network_us: phase(Phase::Network),
        decode_us: phase(Phase::Decode),
        ..StartTimeline::default()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
