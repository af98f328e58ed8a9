//! How many requests the kernel sent, by kind.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// Counts of the requests of one session.
#[derive(Debug, Default)]
pub struct RequestCounts([AtomicU64; KINDS]);

impl RequestCounts {
    pub(crate) fn add(&self, kind: RequestKind) {
        // The kind is below KINDS by construction. Nothing is ordered by a count.
        if let Some(count) = self.0.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests of one kind.
    pub fn of(&self, kind: RequestKind) -> u64 {
        self.0
            .get(kind as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Requests that the kernel waits for: all but forgets, which it sends when it likes.
    pub fn answered(&self) -> u64 {
        let all: u64 = self
            .0
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum();
        // Counted a moment later, so there may be one more than in the sum.
        all.saturating_sub(self.of(RequestKind::Forget))
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
}
