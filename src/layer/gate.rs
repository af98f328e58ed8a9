//! Who may send the next request to a host.
//!
//! Bytes already asked for cannot be called back, so what nobody waits for keeps little on its
//! way and sends nothing while a reader waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Cause;
use super::pace::Pace;

/// Compressed bytes on their way from one host, at most: they are all in memory once they have
/// arrived.
const MAX_IN_FLIGHT: u64 = 128 << 20;

/// While readers wait all the time, one request that nobody waits for is let through this
/// often: a program that reads without pause must not keep the rest of its image away for ever.
const STARVATION_LIMIT: Duration = Duration::from_millis(500);

/// A second request is worth its place on the link when the round trip between two would leave
/// more than this part of the link idle.
const IDLE_PART: u64 = 16;

/// Orders the requests to one host: demand before read-ahead before background.
#[derive(Debug, Default)]
pub struct FetchGate {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Demand requests waiting or on their way.
    demand: u32,
    /// Since when the others wait for demand, or were last let through.
    paused_since: Option<Instant>,
    read_ahead_waiting: u32,
    in_flight: u64,
    /// Of these, what nobody waits for.
    idle_in_flight: u64,
    idle_requests: u32,
    delivered: u64,
    pace: Pace,
}

/// The right to have one request on its way.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<FetchGate>,
    cause: Cause,
    bytes: u64,
    started: Instant,
    delivered_before: u64,
}

impl FetchGate {
    /// The gate of a host that nothing is known about.
    pub fn new() -> Arc<FetchGate> {
        Arc::new(FetchGate::default())
    }

    /// Compressed bytes to ask for in one background request.
    pub fn request_bytes(&self) -> u64 {
        self.lock().pace.request_bytes()
    }

    /// Waits until a request for `bytes` may be sent. Dropping the future gives up the place.
    pub async fn enter(self: &Arc<Self>, cause: Cause, bytes: u64) -> Permit {
        let mut place = Place::take(self, cause);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let admitted = self.lock().admit(cause, bytes);
            let pause = match admitted {
                Ok(delivered_before) => {
                    place.leave(true);
                    let (gate, started) = (self.clone(), Instant::now());
                    return Permit {
                        gate,
                        cause,
                        bytes,
                        started,
                        delivered_before,
                    };
                }
                Err(pause) => pause,
            };
            match pause {
                // Nothing else may happen for as long; look again then.
                Some(pause) => drop(tokio::time::timeout(pause, changed).await),
                None => changed.await,
            }
        }
    }

    /// Holds back what nobody waits for, as long as a reader waits for bytes that somebody
    /// else's request already brings.
    pub fn hold(self: &Arc<Self>) -> DemandInterest {
        self.lock().begin_demand();
        DemandInterest { gate: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Admits a request, or says when to look again at the latest (`None`: when something
    /// changes).
    fn admit(&mut self, cause: Cause, bytes: u64) -> Result<u64, Option<Duration>> {
        if self.in_flight > 0 && self.in_flight + bytes > MAX_IN_FLIGHT {
            return Err(None);
        }
        if cause != Cause::Demand {
            self.admit_idle(cause, bytes)?;
            self.idle_in_flight += bytes;
            self.idle_requests += 1;
        }
        self.in_flight += bytes;
        Ok(self.delivered)
    }

    fn admit_idle(&mut self, cause: Cause, bytes: u64) -> Result<(), Option<Duration>> {
        if self.demand > 0 {
            let waited = self
                .paused_since
                .map_or(Duration::ZERO, |since| since.elapsed());
            let left = STARVATION_LIMIT.saturating_sub(waited);
            if self.idle_requests > 0 {
                return Err(None);
            }
            if left > Duration::ZERO {
                return Err(Some(left));
            }
            self.paused_since = Some(Instant::now());
            return Ok(());
        }
        if cause == Cause::Background && self.read_ahead_waiting > 0 {
            return Err(None);
        }
        let fits = self.idle_in_flight + bytes <= self.pace.window_bytes();
        let product = self.pace.product().unwrap_or(bytes);
        let second = self.idle_requests == 1 && product > bytes / IDLE_PART;
        if self.idle_requests > 0 && !fits && !second {
            return Err(None);
        }
        Ok(())
    }
}

/// A place among those who wait; given up when dropped.
struct Place<'a> {
    gate: &'a FetchGate,
    cause: Cause,
    waiting: bool,
}

impl<'a> Place<'a> {
    fn take(gate: &'a FetchGate, cause: Cause) -> Place<'a> {
        let mut state = gate.lock();
        match cause {
            Cause::Demand => state.begin_demand(),
            Cause::ReadAhead => state.read_ahead_waiting += 1,
            Cause::Background => {}
        }
        drop(state);
        Place {
            gate,
            cause,
            waiting: true,
        }
    }

    /// A demand request that was admitted goes on counting: its permit ends it.
    fn leave(&mut self, admitted: bool) {
        if !std::mem::replace(&mut self.waiting, false) {
            return;
        }
        let mut state = self.gate.lock();
        match self.cause {
            Cause::Demand if !admitted => state.end_demand(),
            Cause::ReadAhead => state.read_ahead_waiting -= 1,
            Cause::Demand | Cause::Background => {}
        }
        drop(state);
        self.gate.changed.notify_waiters();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave(false);
    }
}

/// A reader waits; see [`FetchGate::hold`].
#[derive(Debug)]
pub struct DemandInterest {
    gate: Arc<FetchGate>,
}

impl Drop for DemandInterest {
    fn drop(&mut self) {
        self.gate.lock().end_demand();
        self.gate.changed.notify_waiters();
    }
}

impl State {
    fn begin_demand(&mut self) {
        self.demand += 1;
        self.paused_since.get_or_insert_with(Instant::now);
    }

    fn end_demand(&mut self) {
        self.demand -= 1;
        if self.demand == 0 {
            self.paused_since = None;
        }
    }
}

impl Permit {
    /// The request's bytes have arrived: what that says about the link is noted.
    pub fn arrived(&self, bytes: u64) {
        let mut state = self.gate.lock();
        state.delivered += bytes;
        let delivered = state.delivered - self.delivered_before;
        state.pace.record(bytes, delivered, self.started.elapsed());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.in_flight -= self.bytes;
        if self.cause == Cause::Demand {
            state.end_demand();
        } else {
            state.idle_in_flight -= self.bytes;
            state.idle_requests -= 1;
        }
        drop(state);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::{FetchGate, STARVATION_LIMIT};
    use crate::layer::Cause;
    use futures_util::FutureExt;
    use std::time::{Duration, Instant};

    const SIZE: u64 = 1 << 20;

    #[tokio::test]
    async fn nothing_idle_starts_while_a_reader_waits() {
        let gate = FetchGate::new();
        let demand = gate.enter(Cause::Demand, SIZE).await;
        assert!(gate.enter(Cause::Background, SIZE).now_or_never().is_none());
        assert!(gate.enter(Cause::ReadAhead, SIZE).now_or_never().is_none());
        assert!(gate.enter(Cause::Demand, SIZE).now_or_never().is_some());
        drop(demand);
        assert!(gate.enter(Cause::Background, SIZE).now_or_never().is_some());
    }

    #[tokio::test]
    async fn starvation_has_an_end() {
        let gate = FetchGate::new();
        let _demand = gate.enter(Cause::Demand, SIZE).await;
        let start = Instant::now();
        let one = gate.enter(Cause::Background, SIZE).await;
        assert!(start.elapsed() >= STARVATION_LIMIT);
        let second = tokio::time::timeout(Duration::from_millis(50), async {
            gate.enter(Cause::Background, SIZE).await
        });
        assert!(second.await.is_err());
        drop(one);
    }

    #[tokio::test]
    async fn read_ahead_goes_before_background() {
        let gate = FetchGate::new();
        let demand = gate.enter(Cause::Demand, SIZE).await;
        let mut ahead = std::pin::pin!(gate.enter(Cause::ReadAhead, SIZE));
        assert!(ahead.as_mut().now_or_never().is_none());
        drop(demand);
        assert!(gate.enter(Cause::Background, SIZE).now_or_never().is_none());
        let _ahead = ahead.await;
        assert!(gate.enter(Cause::Background, SIZE).now_or_never().is_some());
    }

    #[tokio::test]
    async fn idle_bytes_on_their_way_are_bounded_and_one_request_always_goes() {
        let gate = FetchGate::new();
        let huge = gate.enter(Cause::Background, 64 << 20).await;
        let mut others = Vec::new();
        while let Some(permit) = gate.enter(Cause::Background, SIZE).now_or_never() {
            others.push(permit);
            assert!(others.len() < 4);
        }
        drop((huge, others));
        let mut count = 0;
        let mut permits = Vec::new();
        while let Some(permit) = gate.enter(Cause::Background, SIZE).now_or_never() {
            permits.push(permit);
            count += 1;
        }
        assert_eq!(count, 2);
    }
}
