//! Reads that wait for content, and the release of callers that are being killed.
//!
//! Once a server has read a request, the kernel waits for its answer even after SIGKILL: without
//! help a direct read or a page fault on missing content would stay in D state until the fetch
//! ends. So, while anything waits, a watcher thread looks at the callers and answers EINTR for
//! those that have SIGKILL pending; only a dying task sees that answer. FUSE_INTERRUPT is no
//! substitute: every signal sends it, and reads of files must not fail for an ordinary signal.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::caller::{Caller, exists, look_at};
use crate::content::{Content, Done, Piece};

/// Reads that may be unanswered at one time, over all mounts that share the registry.
///
/// The kernel keeps up to 65,535 background reads (read-ahead) of one mount in flight, which is
/// what the mount asks for; twice that leaves room for as many callers that wait for themselves.
/// At about 1 KiB each it bounds the memory at 128 MiB. A read above it that is not local gets
/// EAGAIN: nothing is wrong with the content, and asking again later is right.
pub const WAITING_READS_MAX: usize = 2 * 65_535;

/// How often callers are looked at: well below the second after which an operator doubts that
/// `kill -9` works, and not noticeable as load (about 10 µs for each waiting task).
const PERIOD: Duration = Duration::from_millis(100);

/// A pass over very many callers stretches the period, so that the watcher never takes more than
/// a fifth of one CPU.
const REST_FACTOR: u32 = 4;

/// Passes without anything to watch after which the watcher ends: a second, so that a start that
/// misses the cache again and again does not start a thread for each miss.
const IDLE_PASSES: u32 = 10;

/// The reads of one or several mounts that have no answer yet.
pub struct WaitingReads {
    limit: usize,
    /// Reads handed to [`Content`] whose [`Done`] still exists, whether their caller still waits.
    outstanding: AtomicUsize,
    /// Set when a successor will answer what this process leaves unanswered.
    leaving: AtomicBool,
    watched: Mutex<Watched>,
    wakeup: Condvar,
}

#[derive(Default)]
struct Watched {
    reads: HashMap<u64, Read>,
    next_key: u64,
    has_watcher: bool,
}

struct Read {
    tid: u32,
    /// The task was found when its read began to wait, or later. One that never was found may
    /// live where this process cannot look, which must not end its reads.
    seen: bool,
    since: Instant,
    slot: Arc<Slot>,
}

/// The answer of one read: given by whoever takes `reply` first.
struct Slot(Mutex<Unanswered>);

struct Unanswered {
    reply: Option<Done>,
    /// Key in [`Watched::reads`], once it is there.
    key: Option<u64>,
}

impl Default for WaitingReads {
    fn default() -> Self {
        Self::with_limit(WAITING_READS_MAX)
    }
}

impl WaitingReads {
    /// A registry that refuses reads above `limit`; [`WAITING_READS_MAX`] by default.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            outstanding: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            watched: Mutex::default(),
            wakeup: Condvar::new(),
        }
    }

    /// Reads that are waiting now: not answered before the content trait gave the thread back.
    pub fn waiting(&self) -> usize {
        self.watched().reads.len()
    }

    /// Reads that have been waiting for at least `limit`.
    pub fn waiting_for(&self, limit: Duration) -> usize {
        let is_long = |read: &&Read| read.since.elapsed() >= limit;
        self.watched().reads.values().filter(is_long).count()
    }

    /// Reads whose content is still being fetched, including those whose caller was killed.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// From now on, reads that are dropped without an answer stay unanswered instead of failing:
    /// this process is about to end and its successor gets them again (FUSE_NOTIFY_RESEND).
    pub fn leave_to_successor(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    /// Reads `pieces` and answers `reply` once: with exactly `length` bytes, with the content's
    /// errno, with EINTR when thread `tid` (0 = unknown) is killed while it waits, or with EAGAIN
    /// above the limit.
    pub(crate) fn serve(
        self: &Arc<Self>,
        content: &impl Content,
        tid: u32,
        pieces: Vec<Piece>,
        length: usize,
        reply: Done,
    ) {
        if self.outstanding() >= self.limit && !content.is_local(&pieces) {
            return reply(Err(Errno::EAGAIN));
        }
        let slot = Arc::new(Slot(Mutex::new(Unanswered {
            reply: Some(reply),
            key: None,
        })));
        let completion = Completion::new(Arc::clone(self), Arc::clone(&slot));
        content.read(
            pieces,
            Box::new(move |result| completion.finish(result.and_then(|b| whole(b, length)))),
        );
        self.watch(tid, slot);
    }

    /// Lets the watcher look after a read that has no answer yet.
    fn watch(self: &Arc<Self>, tid: u32, slot: Arc<Slot>) {
        let seen = tid != 0 && exists(tid);
        let mut unanswered = slot.lock();
        if unanswered.reply.is_none() {
            return;
        }
        let mut watched = self.watched();
        let key = watched.next_key;
        watched.next_key += 1;
        unanswered.key = Some(key);
        drop(unanswered);
        let since = Instant::now();
        let read = Read {
            tid,
            seen,
            since,
            slot,
        };
        watched.reads.insert(key, read);
        if !watched.has_watcher {
            let registry = Arc::clone(self);
            let started = thread::Builder::new()
                .name("fuse-waiting".to_owned())
                .spawn(move || registry.run_watcher());
            match started {
                Ok(_) => watched.has_watcher = true,
                // The next waiting read tries again; until then nobody is worse off than by
                // waiting for the fetch.
                Err(error) => tracing::warn!(%error, "cannot watch the callers of waiting reads"),
            }
        }
    }

    fn run_watcher(&self) {
        let mut idle = 0;
        let mut rest = PERIOD;
        loop {
            let mut watched = self
                .wakeup
                .wait_timeout(self.watched(), rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            idle = if watched.reads.is_empty() {
                idle + 1
            } else {
                0
            };
            if idle >= IDLE_PASSES {
                watched.has_watcher = false;
                return;
            }
            drop(watched);
            let start = Instant::now();
            self.release_killed(look_at);
            rest = PERIOD.max(start.elapsed() * REST_FACTOR);
        }
    }

    /// One pass: answers EINTR for every read whose caller `look` finds dying or gone.
    fn release_killed(&self, look: impl Fn(u32) -> Caller) {
        let mut callers: HashMap<u32, Vec<u64>> = HashMap::new();
        for (&key, read) in &self.watched().reads {
            if read.tid != 0 {
                callers.entry(read.tid).or_default().push(key);
            }
        }
        for (tid, keys) in callers {
            let caller = look(tid);
            let mut released = Vec::new();
            {
                let mut watched = self.watched();
                for key in keys {
                    // Answered meanwhile: not there.
                    let Some(read) = watched.reads.get_mut(&key) else {
                        continue;
                    };
                    match caller {
                        Caller::Alive => read.seen = true,
                        Caller::Killed => released.push(Arc::clone(&read.slot)),
                        Caller::Gone if read.seen => released.push(Arc::clone(&read.slot)),
                        Caller::Gone | Caller::Unknown => {}
                    }
                }
            }
            for slot in released {
                tracing::debug!(tid, "releasing a waiting read of a killed task");
                self.answer(&slot, Err(Errno::EINTR));
            }
        }
    }

    /// Answers, unless somebody did.
    fn answer(&self, slot: &Slot, result: Result<&[u8], Errno>) {
        if let Some(reply) = self.take(slot) {
            reply(result);
        }
    }

    fn take(&self, slot: &Slot) -> Option<Done> {
        let (reply, key) = {
            let mut unanswered = slot.lock();
            (unanswered.reply.take(), unanswered.key.take())
        };
        if let Some(key) = key {
            self.watched().reads.remove(&key);
        }
        reply
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        // Nothing panics while it is held, and every state of it is a usable one.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Unanswered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of an answer, if they are all there.
fn whole(bytes: &[u8], length: usize) -> Result<&[u8], Errno> {
    if bytes.len() == length {
        return Ok(bytes);
    }
    tracing::error!(
        expected = length,
        actual = bytes.len(),
        "content of a wrong length"
    );
    Err(Errno::EIO)
}

/// What [`Content`] holds: answers when called, and also when it is dropped.
struct Completion {
    registry: Arc<WaitingReads>,
    slot: Arc<Slot>,
    called: bool,
}

impl Completion {
    fn new(registry: Arc<WaitingReads>, slot: Arc<Slot>) -> Self {
        registry.outstanding.fetch_add(1, Ordering::Relaxed);
        Self {
            registry,
            slot,
            called: false,
        }
    }

    fn finish(mut self, result: Result<&[u8], Errno>) {
        self.called = true;
        self.registry.answer(&self.slot, result);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.registry.outstanding.fetch_sub(1, Ordering::Relaxed);
        if self.called {
            return;
        }
        let Some(reply) = self.registry.take(&self.slot) else {
            return;
        };
        if self.registry.leaving.load(Ordering::SeqCst) {
            // Dropping the reply would answer EIO. The process ends, so nothing is lost.
            mem::forget(reply);
        } else {
            tracing::error!("a read was dropped without an answer");
            reply(Err(Errno::EIO));
        }
    }
}

#[cfg(test)]
mod tests;
