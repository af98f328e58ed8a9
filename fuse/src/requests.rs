//! How many requests the kernel sent, and how long their answers took, by kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::latency::{LatencyHistogram, LatencySnapshot};

/// Kinds of request that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A name in a directory.
    Lookup,
    /// Attributes.
    Getattr,
    /// Target of a symlink.
    Readlink,
    /// Content.
    Read,
    /// A directory, names only.
    Readdir,
    /// A directory with attributes.
    Readdirplus,
    /// The value of an xattr.
    Getxattr,
    /// The names of the xattrs.
    Listxattr,
    /// Size of the filesystem.
    Statfs,
    /// The next data or hole.
    Seek,
    /// open and opendir, each answered once for the mount's life.
    Open,
    /// The kernel drops inodes from its cache; has no answer.
    Forget,
    /// Anything that would change the tree.
    Change,
    /// Everything else (flush, fsync, ioctl, locks, poll).
    Other,
}

const KINDS: usize = RequestKind::Other as usize + 1;

impl RequestKind {
    /// All kinds.
    pub const ALL: [RequestKind; KINDS] = [
        RequestKind::Lookup,
        RequestKind::Getattr,
        RequestKind::Readlink,
        RequestKind::Read,
        RequestKind::Readdir,
        RequestKind::Readdirplus,
        RequestKind::Getxattr,
        RequestKind::Listxattr,
        RequestKind::Statfs,
        RequestKind::Seek,
        RequestKind::Open,
        RequestKind::Forget,
        RequestKind::Change,
        RequestKind::Other,
    ];

    /// The kind's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            RequestKind::Lookup => "lookup",
            RequestKind::Getattr => "getattr",
            RequestKind::Readlink => "readlink",
            RequestKind::Read => "read",
            RequestKind::Readdir => "readdir",
            RequestKind::Readdirplus => "readdirplus",
            RequestKind::Getxattr => "getxattr",
            RequestKind::Listxattr => "listxattr",
            RequestKind::Statfs => "statfs",
            RequestKind::Seek => "lseek",
            RequestKind::Open => "open",
            RequestKind::Forget => "forget",
            RequestKind::Change => "change",
            RequestKind::Other => "other",
        }
    }
}

#[derive(Debug, Default)]
struct OfKind {
    sent: AtomicU64,
    answers: LatencyHistogram,
}

/// Counts of the requests of the sessions that share it.
#[derive(Debug, Default)]
pub struct RequestCounts([OfKind; KINDS]);

impl RequestCounts {
    pub(crate) fn add(&self, kind: RequestKind) {
        // The kind is below KINDS by construction. Nothing is ordered by a count.
        if let Some(of) = self.0.get(kind as usize) {
            of.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request now, and its time when what is returned is dropped.
    pub(crate) fn time(self: &Arc<Self>, kind: RequestKind) -> Timed<Arc<Self>> {
        self.add(kind);
        Timed::start(Arc::clone(self), kind)
    }

    /// The same for an answer that is given before the call returns.
    pub(crate) fn time_here(&self, kind: RequestKind) -> Timed<&Self> {
        self.add(kind);
        Timed::start(self, kind)
    }

    /// Requests of one kind.
    pub fn of(&self, kind: RequestKind) -> u64 {
        self.0
            .get(kind as usize)
            .map_or(0, |of| of.sent.load(Ordering::Relaxed))
    }

    /// How long the answers to requests of one kind took.
    pub fn latency(&self, kind: RequestKind) -> LatencySnapshot {
        self.0
            .get(kind as usize)
            .map_or_else(LatencySnapshot::default, |of| of.answers.snapshot())
    }

    /// Requests that the kernel waits for: all but forgets, which it sends when it likes.
    pub fn answered(&self) -> u64 {
        let all: u64 = self
            .0
            .iter()
            .map(|of| of.sent.load(Ordering::Relaxed))
            .sum();
        // Counted a moment later, so there may be one more than in the sum.
        all.saturating_sub(self.of(RequestKind::Forget))
    }
}

/// A request that has no answer yet.
pub(crate) struct Timed<C: std::ops::Deref<Target = RequestCounts>> {
    counts: C,
    kind: RequestKind,
    since: Instant,
}

impl<C: std::ops::Deref<Target = RequestCounts>> Timed<C> {
    fn start(counts: C, kind: RequestKind) -> Self {
        let since = Instant::now();
        Timed {
            counts,
            kind,
            since,
        }
    }
}

impl<C: std::ops::Deref<Target = RequestCounts>> Drop for Timed<C> {
    fn drop(&mut self) {
        if let Some(of) = self.counts.0.get(self.kind as usize) {
            of.answers.add(self.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart() {
        let counts = RequestCounts::default();
        counts.add(RequestKind::Lookup);
        counts.add(RequestKind::Lookup);
        counts.add(RequestKind::Forget);
        counts.add(RequestKind::Other);
        assert_eq!(counts.of(RequestKind::Lookup), 2);
        assert_eq!(counts.of(RequestKind::Other), 1);
        assert_eq!(counts.of(RequestKind::Read), 0);
        assert_eq!(counts.answered(), 3);
    }

    #[test]
    fn an_answer_is_timed_when_it_is_given() {
        let counts = Arc::new(RequestCounts::default());
        let read = counts.time(RequestKind::Read);
        drop(counts.time_here(RequestKind::Lookup));
        assert_eq!(counts.of(RequestKind::Read), 1);
        assert_eq!(counts.latency(RequestKind::Read).count(), 0);
        drop(read);
        assert_eq!(counts.latency(RequestKind::Read).count(), 1);
        assert_eq!(counts.latency(RequestKind::Lookup).count(), 1);
    }

    #[test]
    fn every_kind_is_listed_once() {
        let numbers = RequestKind::ALL.map(|kind| kind as usize);
        assert_eq!(numbers, std::array::from_fn(|n| n));
    }
}
