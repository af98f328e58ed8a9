//! Memory for chunks on their way: a bound on what all readers of a service hold together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Cause;

/// Bytes of chunks fetched and decoded for readers, compressed and not, at a time: two of the
/// longest chunks there may be, or some two hundred of the usual size.
const READERS: u64 = 256 << 20;

/// The same for what nobody waits for: one of the longest chunks.
const OTHERS: u64 = 128 << 20;

/// The grain of the account.
const UNIT: u64 = 64 << 10;

/// Memory that fetches take in turn. Readers and the others have memory of their own, so that
/// neither waits for the other.
#[derive(Debug)]
pub(super) struct Memory {
    readers: Pool,
    others: Pool,
}

#[derive(Debug)]
struct Pool {
    units: u32,
    free: Arc<Semaphore>,
}

/// Memory taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Taken {
    _units: Option<OwnedSemaphorePermit>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new(READERS, OTHERS)
    }
}

impl Memory {
    pub(super) fn new(readers: u64, others: u64) -> Memory {
        Memory {
            readers: Pool::new(readers),
            others: Pool::new(others),
        }
    }

    /// Waits for memory, in the order of asking. Who needs more than there is gets all of it.
    pub(super) async fn take(&self, cause: Cause, bytes: u64) -> Taken {
        let pool = match cause {
            Cause::Demand => &self.readers,
            Cause::StartUp | Cause::Speculation | Cause::Background => &self.others,
        };
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let units = units.min(pool.units);
        // Never closed.
        let taken = pool.free.clone().acquire_many_owned(units).await;
        Taken { _units: taken.ok() }
    }
}

impl Pool {
    fn new(bytes: u64) -> Pool {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        Pool {
            units,
            free: Arc::new(Semaphore::new(units as usize)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{Memory, UNIT};
    use crate::Cause;

    #[test]
    fn readers_take_turns_and_do_not_wait_for_others() {
        let memory = Memory::new(4 * UNIT, 2 * UNIT);
        let take = |cause, bytes| memory.take(cause, bytes).now_or_never();
        let background = take(Cause::Background, 100 * UNIT).unwrap();
        assert!(take(Cause::Speculation, 1).is_none());
        let one = take(Cause::Demand, 3 * UNIT).unwrap();
        assert!(take(Cause::Demand, 2 * UNIT).is_none());
        drop(one);
        let all = take(Cause::Demand, 100 * UNIT).unwrap();
        assert!(take(Cause::Demand, 1).is_none());
        drop((background, all));
        assert!(take(Cause::StartUp, 2 * UNIT).is_some());
    }
}
