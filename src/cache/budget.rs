//! How much of the disk the cache may hold.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Share of the filesystem that the cache takes unless told otherwise, percent.
const DEFAULT_SHARE: u64 = 80;

/// Share of the filesystem that stays free whatever the budget says, percent: a full disk
/// stops more than this cache.
const FREE_SHARE: u64 = 5;

/// Free space is asked for again after this many reserved bytes ...
const SAMPLE_BYTES: u64 = 16 << 20;
/// ... or after this time: others write to the disk too.
const SAMPLE_AGE: Duration = Duration::from_secs(1);

/// The limit on the bytes the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Percent of the filesystem's size, at most 100.
    Share(u8),
    /// Bytes.
    Bytes(u64),
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::Share(DEFAULT_SHARE as u8)
    }
}

/// What the cache holds and may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of leaves present or being written.
    pub used_bytes: u64,
    /// The budget in bytes.
    pub limit_bytes: u64,
    /// Leaves that were not kept for want of room since start.
    pub not_kept: u64,
    /// Bytes evicted since start.
    pub evicted_bytes: u64,
}

/// Accounts for the bytes held. One per cache.
#[derive(Debug)]
pub(super) struct Ledger {
    /// A directory of the filesystem.
    directory: File,
    limit: u64,
    /// Free bytes below which nothing is added.
    floor: u64,
    state: Mutex<LedgerState>,
}

#[derive(Debug)]
struct LedgerState {
    used: u64,
    not_kept: u64,
    evicted: u64,
    free: u64,
    /// When `free` was asked for; `None` once it is known to be stale.
    sampled: Option<Instant>,
    reserved_since: u64,
}

impl Ledger {
    pub(super) fn new(directory: File, budget: Budget, used: u64) -> io::Result<Ledger> {
        let (total, free) = filesystem(&directory)?;
        let limit = match budget {
            Budget::Share(percent) => total / 100 * u64::from(percent.min(100)),
            Budget::Bytes(bytes) => bytes,
        };
        let state = LedgerState {
            used,
            not_kept: 0,
            evicted: 0,
            free,
            sampled: Some(Instant::now()),
            reserved_since: 0,
        };
        Ok(Ledger {
            directory,
            limit,
            floor: total / 100 * FREE_SHARE,
            state: Mutex::new(state),
        })
    }

    /// Accounts for bytes about to be written. When they do not fit, says how many bytes have
    /// to go first.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), u64> {
        let mut state = self.lock();
        self.sample(&mut state);
        let over_limit = state.used.saturating_add(bytes).saturating_sub(self.limit);
        let free = state.free.saturating_sub(state.reserved_since);
        let over_floor = self.floor.saturating_add(bytes).saturating_sub(free);
        let over = over_limit.max(over_floor);
        if over > 0 {
            return Err(over);
        }
        state.used += bytes;
        state.reserved_since += bytes;
        Ok(())
    }

    /// Bytes written or reserved are gone.
    pub(super) fn release(&self, bytes: u64) {
        let mut state = self.lock();
        state.used = state
            .used
            .checked_sub(bytes)
            .expect("only reserved bytes are released");
        state.reserved_since = state.reserved_since.saturating_sub(bytes);
    }

    pub(super) fn count_evicted(&self, bytes: u64) {
        let mut state = self.lock();
        state.evicted += bytes;
        // What was punched is free now; a stale sample would evict more than needed.
        state.sampled = None;
    }

    pub(super) fn count_not_kept(&self) {
        self.lock().not_kept += 1;
    }

    pub(super) fn usage(&self) -> Usage {
        let state = self.lock();
        Usage {
            used_bytes: state.used,
            limit_bytes: self.limit,
            not_kept: state.not_kept,
            evicted_bytes: state.evicted,
        }
    }

    fn sample(&self, state: &mut LedgerState) {
        let recent = state
            .sampled
            .is_some_and(|sampled| sampled.elapsed() < SAMPLE_AGE);
        if recent && state.reserved_since < SAMPLE_BYTES {
            return;
        }
        // Without an answer the last sample stands; the write itself will tell.
        if let Ok((_, free)) = filesystem(&self.directory) {
            state.free = free;
            state.reserved_since = 0;
        }
        state.sampled = Some(Instant::now());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Total bytes of the filesystem and those free to everyone (statvfs(3)).
fn filesystem(directory: &File) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstatvfs(directory)?;
    Ok((
        stat.f_blocks.saturating_mul(stat.f_frsize),
        stat.f_bavail.saturating_mul(stat.f_frsize),
    ))
}

#[cfg(test)]
mod tests {
    use super::{Budget, Ledger};
    use std::fs::File;

    #[test]
    fn says_how_much_has_to_go() {
        let directory = tempfile::tempdir().unwrap();
        let directory = File::open(directory.path()).unwrap();
        let ledger = Ledger::new(directory, Budget::Bytes(100), 30).unwrap();
        assert_eq!(ledger.reserve(70), Ok(()));
        assert_eq!(ledger.reserve(7), Err(7));
        ledger.release(50);
        assert_eq!(ledger.reserve(50), Ok(()));
        assert_eq!(ledger.usage().used_bytes, 100);
    }

    #[test]
    fn the_free_floor_holds_whatever_the_budget() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(directory.path()).unwrap();
        let (_, free) = super::filesystem(&file).unwrap();
        let ledger = Ledger::new(file, Budget::Bytes(u64::MAX / 2), 0).unwrap();
        assert!(ledger.reserve(free).unwrap_err() > 0);
    }
}
