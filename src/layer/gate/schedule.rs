//! The order of requests to one host, without a clock of its own.
//!
//! Bytes already asked for cannot be called back. So what nobody waits for keeps no more on its
//! way than the link holds in a round trip: it has arrived by the time that a reader's answer
//! begins. While a reader waits, it asks only for what will arrive right behind the reader's
//! bytes: the link is neither shared nor left idle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::FetchLimits;
use super::line::{Lines, Ticket, Waiting};
use crate::Cause;
use crate::pace::{Arrival, Pace};

/// While readers wait all the time, one request that nobody waits for is let through this
/// often: a program that reads without pause must not keep the rest of its image away for ever.
pub(super) const STARVATION_LIMIT: Duration = Duration::from_millis(500);

/// No reader has waited for so long: the program has what it needs, and fewer, longer requests
/// may be in the way of the next one for a round trip.
pub(super) const QUIET: Duration = Duration::from_secs(3);

/// Requests that nobody waits for leave so many of the connections to readers.
const RESERVED: u32 = 2;

/// Who may send a request now, and who waits.
#[derive(Debug)]
pub(super) struct Schedule {
    limits: FetchLimits,
    lines: Lines,
    /// Admitted, and not yet told so.
    granted: BTreeMap<Ticket, Waiting>,
    next_ticket: u64,
    /// Demand requests waiting or on their way.
    demand: u32,
    /// Since when the others wait for demand, or were last let through.
    paused_since: Option<Instant>,
    /// When the demand requests on their way should have arrived.
    demand_end: Option<Instant>,
    /// When the others should have.
    idle_end: Option<Instant>,
    /// When the last reader's bytes had arrived; before, when anything was first asked for.
    quiet_since: Option<Instant>,
    /// When the next request that nobody waits for may follow the one before: those sent at a
    /// time would end at a time, and leave the link idle for a round trip.
    idle_next: Option<Instant>,
    requests: u32,
    in_flight: u64,
    /// Of these, what nobody waits for.
    idle_in_flight: u64,
    pace: Pace,
}

/// What came of looking at who waits.
#[derive(Debug)]
pub(super) struct Look {
    /// Requests were admitted.
    pub(super) admitted: bool,
    /// When to look again at the latest; `None`: when something changes.
    pub(super) again: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(limits: FetchLimits) -> Schedule {
        Schedule {
            limits,
            lines: Lines::default(),
            granted: BTreeMap::new(),
            next_ticket: 0,
            demand: 0,
            paused_since: None,
            demand_end: None,
            idle_end: None,
            idle_next: None,
            quiet_since: None,
            requests: 0,
            in_flight: 0,
            idle_in_flight: 0,
            pace: Pace::default(),
        }
    }

    /// Compressed bytes to ask for at a time where nobody waits.
    pub(super) fn request_bytes(&self, now: Instant) -> u64 {
        self.pace.request_bytes(self.is_quiet(now))
    }

    fn is_quiet(&self, now: Instant) -> bool {
        let since = self.quiet_since.filter(|_| self.demand == 0);
        since.is_some_and(|since| now.saturating_duration_since(since) >= QUIET)
    }

    /// Joins the line.
    pub(super) fn ask(&mut self, now: Instant, cause: Cause, image: u64, bytes: u64) -> Ticket {
        self.quiet_since.get_or_insert(now);
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        if cause == Cause::Demand {
            self.begin_demand(now);
        }
        self.lines.join(Waiting {
            ticket,
            cause,
            image,
            bytes,
        });
        ticket
    }

    /// Gives up a place in the line, or a request that was admitted and will not be sent.
    pub(super) fn leave(&mut self, now: Instant, ticket: Ticket) {
        if let Some(granted) = self.granted.remove(&ticket) {
            self.end(now, granted.cause, granted.bytes);
        } else if let Some(waiting) = self.lines.leave(ticket)
            && waiting.cause == Cause::Demand
        {
            self.end_demand(now);
        }
    }

    /// Admits whoever may go.
    pub(super) fn look(&mut self, now: Instant) -> Look {
        let mut admitted = false;
        while let Some(next) = self.lines.next() {
            if let Err(again) = self.admit(now, &next) {
                return Look { admitted, again };
            }
            self.lines.serve();
            self.granted.insert(next.ticket, next);
            admitted = true;
        }
        let again = None;
        Look { admitted, again }
    }

    /// Whether a request has been admitted; once.
    pub(super) fn collect(&mut self, ticket: Ticket) -> bool {
        self.granted.remove(&ticket).is_some()
    }

    /// A request that nobody waited for is waited for now.
    pub(super) fn promote(&mut self, now: Instant, bytes: u64) {
        self.idle_in_flight -= bytes;
        self.begin_demand(now);
        let begin = self.idle_end.map_or(now, |end| end.max(now));
        self.demand_end = self.expect(self.demand_end, begin, bytes);
    }

    /// A request has ended, however it did.
    pub(super) fn end(&mut self, now: Instant, cause: Cause, bytes: u64) {
        self.requests -= 1;
        self.in_flight -= bytes;
        if cause == Cause::Demand {
            self.end_demand(now);
        } else {
            self.idle_in_flight -= bytes;
        }
    }

    /// A request's bytes have arrived: what that says about the link is noted.
    pub(super) fn arrived(&mut self, arrival: Arrival) {
        self.pace.record(arrival);
    }

    fn begin_demand(&mut self, now: Instant) {
        self.demand += 1;
        self.paused_since.get_or_insert(now);
    }

    fn end_demand(&mut self, now: Instant) {
        self.demand -= 1;
        self.quiet_since = Some(now);
        if self.demand == 0 {
            self.demand_end = None;
            self.paused_since = None;
        }
    }

    /// Admits a request, or says when to look again.
    fn admit(&mut self, now: Instant, next: &Waiting) -> Result<(), Option<Instant>> {
        if self.in_flight > 0 && self.in_flight + next.bytes > self.limits.in_flight_bytes {
            return Err(None);
        }
        if self.requests >= self.limits.connections.max(1) {
            return Err(None);
        }
        let first_byte = now + self.pace.trip().unwrap_or_default();
        if next.cause == Cause::Demand {
            // At worst it shares the link with what is on its way already.
            let begin = self.idle_end.map_or(first_byte, |end| end.max(first_byte));
            self.demand_end = self.expect(self.demand_end, begin, next.bytes);
        } else {
            self.admit_idle(now, next)?;
            self.idle_in_flight += next.bytes;
            self.idle_end = self.expect(self.idle_end, first_byte, next.bytes);
            self.idle_next = self.expect(None, now, next.bytes * 4 / 5);
        }
        self.in_flight += next.bytes;
        self.requests += 1;
        Ok(())
    }

    /// Foresees when bytes will have arrived, behind those asked for before.
    fn expect(&self, before: Option<Instant>, begin: Instant, bytes: u64) -> Option<Instant> {
        let rate = self.pace.rate()?;
        let begin = before.map_or(begin, |end| end.max(begin));
        let transfer = Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX);
        begin.checked_add(transfer)
    }

    fn admit_idle(&mut self, now: Instant, next: &Waiting) -> Result<(), Option<Instant>> {
        if self.demand > 0 {
            self.admit_beside_demand(now)?;
        }
        let idle_connections = self.limits.connections.saturating_sub(RESERVED).max(1);
        if self.requests >= idle_connections {
            return Err(None);
        }
        let window = self.pace.window_bytes(self.is_quiet(now));
        let window = match next.cause {
            // It will be read: what comes between its requests costs the start more than what
            // it keeps another reader waiting.
            Cause::StartUp => window.saturating_mul(2),
            Cause::Demand | Cause::Speculation | Cause::Background => window,
        };
        if self.idle_in_flight > 0 && self.idle_in_flight + next.bytes > window {
            return Err(None);
        }
        if let Some(due) = self
            .idle_next
            .filter(|due| self.idle_in_flight > 0 && now < *due)
        {
            return Err(Some(due));
        }
        if self.paused_since.is_some() {
            self.paused_since = Some(now);
        }
        Ok(())
    }

    /// While readers wait: only what arrives when their bytes have, and now and then one more.
    fn admit_beside_demand(&self, now: Instant) -> Result<(), Option<Instant>> {
        let since = self.paused_since.unwrap_or(now);
        let starved = since + STARVATION_LIMIT;
        let mut again = starved;
        if let Some((end, trip)) = self.demand_end.zip(self.pace.trip()) {
            // Long overdue, they meet some trouble that must not be added to.
            if now <= end + trip {
                let due = end.checked_sub(trip).unwrap_or(now);
                if now >= due {
                    return Ok(());
                }
                again = again.min(due);
            }
        }
        match (now >= starved, self.idle_in_flight) {
            (true, 0) => Ok(()),
            (true, _) => Err(None),
            (false, _) => Err(Some(again)),
        }
    }

    #[cfg(test)]
    pub(super) fn window_bytes(&self, now: Instant) -> u64 {
        self.pace.window_bytes(self.is_quiet(now))
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        (
            self.demand,
            self.requests,
            self.in_flight,
            self.idle_in_flight,
        ) == (0, 0, 0, 0)
            && self.lines.next().is_none()
            && self.granted.is_empty()
    }
}
