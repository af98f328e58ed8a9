//! Who may send the next request to a host.

mod line;
mod schedule;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::pace::Arrival;
use super::{Cause, Purpose};
use line::Ticket;
use schedule::Schedule;

/// Bounds on what is on its way from one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Requests at a time. Two of them are kept for readers.
    pub connections: u32,
    /// Compressed bytes: they are all in memory once they have arrived. A single request may
    /// have more.
    pub in_flight_bytes: u64,
}

impl Default for FetchLimits {
    fn default() -> FetchLimits {
        FetchLimits {
            // More streams than this gain nothing on a link, and registries dislike them.
            connections: 32,
            // Two round trips of 200 ms at 2.5 Gbit/s.
            in_flight_bytes: 128 << 20,
        }
    }
}

/// Plans the requests to one host, over all layers and images: demand before the start-up set
/// before speculation before background, images in turn. What nobody waits for keeps about one
/// round trip times bandwidth on its way, and gives way to readers.
#[derive(Debug)]
pub struct FetchGate {
    schedule: Mutex<Schedule>,
    changed: Notify,
}

/// The right to have one request on its way.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<FetchGate>,
    cause: Cause,
    bytes: u64,
    promoted: AtomicBool,
}

impl FetchGate {
    /// The gate of a host that nothing is known about.
    pub fn new(limits: FetchLimits) -> Arc<FetchGate> {
        Arc::new(FetchGate {
            schedule: Mutex::new(Schedule::new(limits)),
            changed: Notify::new(),
        })
    }

    /// Compressed bytes to ask for at a time where nobody waits.
    pub fn request_bytes(&self) -> u64 {
        self.lock().request_bytes(Instant::now())
    }

    /// Waits until a request for `bytes` may be sent. Dropping the future gives up the place.
    pub async fn enter(self: &Arc<Self>, purpose: &Purpose, bytes: u64) -> Permit {
        let cause = purpose.cause;
        let place = Place {
            gate: self,
            ticket: self
                .lock()
                .ask(Instant::now(), cause, purpose.account.number(), bytes),
        };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (look, is_mine) = {
                let mut schedule = self.lock();
                let look = schedule.look(Instant::now());
                (look, schedule.collect(place.ticket))
            };
            if look.admitted {
                self.changed.notify_waiters();
            }
            if is_mine {
                std::mem::forget(place);
                return Permit {
                    gate: self.clone(),
                    cause,
                    bytes,
                    promoted: AtomicBool::new(false),
                };
            }
            match look.again {
                Some(again) => drop(tokio::time::timeout_at(again.into(), changed).await),
                None => changed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait; given up when dropped.
struct Place<'a> {
    gate: &'a FetchGate,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.lock().leave(Instant::now(), self.ticket);
        self.gate.changed.notify_waiters();
    }
}

impl Permit {
    /// The request's bytes have arrived: what that says about the link is noted.
    pub fn arrived(&self, arrival: Arrival) {
        self.gate.lock().arrived(arrival);
    }

    /// A reader waits for the request's bytes from now on: others make way for it.
    pub fn promote(&self) {
        if self.cause != Cause::Demand && !self.promoted.swap(true, Ordering::Relaxed) {
            self.gate.lock().promote(Instant::now(), self.bytes);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let cause = match *self.promoted.get_mut() {
            true => Cause::Demand,
            false => self.cause,
        };
        self.gate.lock().end(Instant::now(), cause, self.bytes);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
