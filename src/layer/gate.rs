//! Who may send the next request to a host.
//!
//! Bytes already asked for cannot be called back, so what nobody waits for keeps little on its
//! way and, while a reader waits, asks only for what will arrive right behind the reader's
//! bytes: the link is neither shared nor left idle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Cause;
use super::pace::{Arrival, Pace};

/// Compressed bytes on their way from one host, at most: they are all in memory once they have
/// arrived.
const MAX_IN_FLIGHT: u64 = 128 << 20;

/// While readers wait all the time, one request that nobody waits for is let through this
/// often: a program that reads without pause must not keep the rest of its image away for ever.
const STARVATION_LIMIT: Duration = Duration::from_millis(500);

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
    /// Readers that wait for what somebody else's request brings.
    held: u32,
    /// Since when the others wait for demand, or were last let through.
    paused_since: Option<Instant>,
    /// When the demand requests on their way should have arrived.
    demand_end: Option<Instant>,
    read_ahead_waiting: u32,
    in_flight: u64,
    /// Of these, what nobody waits for.
    idle_in_flight: u64,
    pace: Pace,
}

/// The right to have one request on its way.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<FetchGate>,
    cause: Cause,
    bytes: u64,
}

/// A reader waits; see [`FetchGate::hold`].
#[derive(Debug)]
pub struct Hold {
    gate: Arc<FetchGate>,
}

impl FetchGate {
    /// The gate of a host that nothing is known about.
    pub fn new() -> Arc<FetchGate> {
        Arc::new(FetchGate::default())
    }

    /// Compressed bytes to ask for at a time where nobody waits.
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
            match admitted {
                Ok(()) => {
                    place.leave(true);
                    return Permit {
                        gate: self.clone(),
                        cause,
                        bytes,
                    };
                }
                // Nothing else may happen for as long; look again then.
                Err(Some(pause)) => drop(tokio::time::timeout(pause, changed).await),
                Err(None) => changed.await,
            }
        }
    }

    /// Holds back what nobody waits for, as long as a reader waits for bytes that somebody
    /// else's request brings.
    pub fn hold(self: &Arc<Self>) -> Hold {
        let mut state = self.lock();
        state.held += 1;
        state.pause();
        Hold { gate: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Admits a request, or says when to look again at the latest (`None`: when something
    /// changes).
    fn admit(&mut self, cause: Cause, bytes: u64) -> Result<(), Option<Duration>> {
        if self.in_flight > 0 && self.in_flight + bytes > MAX_IN_FLIGHT {
            return Err(None);
        }
        if cause == Cause::Demand {
            self.expect(bytes);
        } else {
            self.admit_idle(cause)?;
            self.idle_in_flight += bytes;
        }
        self.in_flight += bytes;
        Ok(())
    }

    /// Foresees when a demand request's bytes will have arrived, behind those asked for before.
    fn expect(&mut self, bytes: u64) {
        let Some((trip, rate)) = self.pace.trip().zip(self.pace.rate()) else {
            return;
        };
        let first = Instant::now() + trip;
        let begin = self.demand_end.map_or(first, |end| end.max(first));
        let transfer = Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX);
        self.demand_end = begin.checked_add(transfer);
    }

    fn admit_idle(&mut self, cause: Cause) -> Result<(), Option<Duration>> {
        if self.demand > 0 || self.held > 0 {
            self.admit_beside_demand()?;
        }
        if cause == Cause::Background && self.read_ahead_waiting > 0 {
            return Err(None);
        }
        if self.idle_in_flight > 0 && self.idle_in_flight >= self.pace.window_bytes() {
            return Err(None);
        }
        if self.paused_since.is_some() {
            self.paused_since = Some(Instant::now());
        }
        Ok(())
    }

    /// While readers wait: only what arrives when their bytes have, and now and then one more.
    fn admit_beside_demand(&self) -> Result<(), Option<Duration>> {
        let now = Instant::now();
        let paused = self
            .paused_since
            .map_or(Duration::ZERO, |since| now - since);
        let starved = STARVATION_LIMIT.saturating_sub(paused);
        let known = self
            .demand_end
            .zip(self.pace.trip())
            .filter(|_| self.held == 0);
        let mut wait = starved;
        if let Some((end, trip)) = known {
            let early = end.saturating_duration_since(now + trip);
            // Long overdue, they meet some trouble that must not be added to.
            let overdue = now > end + trip;
            if early.is_zero() && !overdue {
                return Ok(());
            }
            if !overdue {
                wait = wait.min(early);
            }
        }
        match (starved.is_zero(), self.idle_in_flight) {
            (true, 0) => Ok(()),
            (true, _) => Err(None),
            (false, _) => Err(Some(wait)),
        }
    }

    fn pause(&mut self) {
        self.paused_since.get_or_insert_with(Instant::now);
    }

    fn end_demand(&mut self) {
        self.demand -= 1;
        if self.demand == 0 {
            self.demand_end = None;
        }
        self.unpause();
    }

    fn unpause(&mut self) {
        if self.demand == 0 && self.held == 0 {
            self.paused_since = None;
        }
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
            Cause::Demand => {
                state.demand += 1;
                state.pause();
            }
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

impl Permit {
    /// The request's bytes have arrived: what that says about the link is noted.
    pub(super) fn arrived(&self, arrival: Arrival) {
        self.gate.lock().pace.record(arrival);
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
        }
        drop(state);
        self.gate.changed.notify_waiters();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.held -= 1;
        state.unpause();
        drop(state);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
