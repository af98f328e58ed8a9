//! The schedule over modelled links, event by event on a clock of its own: what readers wait for
//! with and without others, and whether the link is ever left idle.

use std::time::{Duration, Instant};

use super::FetchLimits;
use super::line::Ticket;
use super::schedule::Schedule;
use crate::Cause;
use crate::pace::Arrival;

/// How requests side by side share the link.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sharing {
    /// Each gets as much.
    Fair,
    /// One after another, in the order in which their answers begin.
    InTurn,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    trip: Duration,
    /// Bytes per second.
    rate: f64,
    sharing: Sharing,
    /// Answers begin up to this part of a round trip later.
    jitter: f64,
}

/// A request on its way.
struct Flow {
    number: Ticket,
    cause: Cause,
    image: u64,
    sent: Instant,
    /// Its answer begins, at the earliest.
    begins: Instant,
    first_byte: Option<Instant>,
    bytes: u64,
    left: f64,
}

/// A program that reads, works, and reads again.
struct Reader {
    /// Bytes of each read and the work after it.
    reads: Vec<(u64, Duration)>,
    next: usize,
    ready: Option<Instant>,
    asked: Instant,
    waited: Vec<Duration>,
}

struct World {
    link: Link,
    schedule: Schedule,
    dice: u64,
    now: Instant,
    begun: Instant,
    waiting: Vec<(Ticket, Cause, u64, u64)>,
    flows: Vec<Flow>,
    look: Option<Instant>,
    /// Requests without end, by class and image, and how many of each may wait.
    idle: Vec<(Cause, u64)>,
    carried: [u64; 4],
    carried_for: [u64; 4],
}

/// Requests of one source that wait or are on their way.
const AHEAD: usize = 12;

impl World {
    fn new(link: Link, idle: &[(Cause, u64)]) -> World {
        let now = Instant::now();
        World {
            link,
            schedule: Schedule::new(FetchLimits::default()),
            dice: 1,
            now,
            begun: now,
            waiting: Vec::new(),
            flows: Vec::new(),
            look: None,
            idle: idle.to_vec(),
            carried: [0; 4],
            carried_for: [0; 4],
        }
    }

    fn roll(&mut self) -> f64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn ask(&mut self, cause: Cause, image: u64, bytes: u64) {
        let ticket = self.schedule.ask(self.now, cause, image, bytes);
        self.waiting.push((ticket, cause, image, bytes));
    }

    fn refill(&mut self) {
        for (cause, image) in self.idle.clone() {
            let mine = |c: Cause, i: u64| (c, i) == (cause, image);
            let here = self.waiting.iter().filter(|w| mine(w.1, w.2)).count()
                + self.flows.iter().filter(|f| mine(f.cause, f.image)).count();
            for _ in here..AHEAD {
                let bytes = self.schedule.request_bytes(self.now);
                self.ask(cause, image, bytes);
            }
        }
    }

    fn send_admitted(&mut self) {
        self.look = self.schedule.look(self.now).again;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|&(ticket, cause, image, bytes)| {
            if !self.schedule.collect(ticket) {
                return true;
            }
            let late = self.link.trip.mul_f64(self.roll() * self.link.jitter);
            self.flows.push(Flow {
                number: ticket,
                cause,
                image,
                sent: self.now,
                begins: self.now + self.link.trip + late,
                first_byte: None,
                bytes,
                left: bytes as f64,
            });
            false
        });
        self.waiting = waiting;
    }

    /// Bytes per second that each flow gets now.
    fn rates(&self) -> Vec<f64> {
        let begun = |flow: &&Flow| flow.begins <= self.now;
        let sharing = self.flows.iter().filter(begun).count();
        let first = self
            .flows
            .iter()
            .filter(begun)
            .map(|f| (f.begins, f.number))
            .min();
        let rate = |flow: &Flow| match self.link.sharing {
            _ if flow.begins > self.now => 0.0,
            Sharing::Fair => self.link.rate / sharing as f64,
            Sharing::InTurn if Some((flow.begins, flow.number)) == first => self.link.rate,
            Sharing::InTurn => 0.0,
        };
        self.flows.iter().map(rate).collect()
    }

    /// Runs until the next event before `limit`; the flows that ended with it.
    fn advance(&mut self, limit: Instant) -> Vec<Flow> {
        let rates = self.rates();
        let mut until = limit;
        for (flow, rate) in self.flows.iter_mut().zip(&rates) {
            if *rate > 0.0 {
                flow.first_byte.get_or_insert(self.now);
                // Rounded up, so that time goes on.
                let rest = Duration::from_secs_f64(flow.left / rate) + Duration::from_nanos(1);
                until = until.min(self.now + rest);
            } else if flow.begins > self.now {
                until = until.min(flow.begins);
            }
        }
        if let Some(look) = self.look {
            until = until.min(look.max(self.now));
        }
        let elapsed = (until - self.now).as_secs_f64();
        for (flow, rate) in self.flows.iter_mut().zip(&rates) {
            flow.left -= rate * elapsed;
        }
        self.now = until;
        let flows = std::mem::take(&mut self.flows);
        let (ended, flows) = flows.into_iter().partition(|flow| flow.left <= 0.001);
        self.flows = flows;
        ended
    }

    fn settle(&mut self, flow: &Flow) {
        self.schedule.arrived(Arrival {
            started: flow.sent,
            ended: self.now,
            first_byte: flow.first_byte.map(|first| first - flow.sent),
            bytes: flow.bytes,
        });
        self.schedule.end(self.now, flow.cause, flow.bytes);
        self.carried[flow.cause as usize] += flow.bytes;
        self.carried_for[flow.image as usize] += flow.bytes;
    }

    /// Runs until the reader has read everything, or for `limit` where it reads nothing.
    fn run(&mut self, reader: &mut Reader, limit: Duration) {
        reader.ready = Some(self.now);
        let end = self.now + limit;
        while self.now < end && (reader.reads.is_empty() || reader.next < reader.reads.len()) {
            if reader.ready.is_some_and(|ready| ready <= self.now)
                && let Some(&(bytes, _)) = reader.reads.get(reader.next)
            {
                reader.ready = None;
                reader.asked = self.now;
                self.ask(Cause::Demand, 0, bytes);
            }
            self.refill();
            self.send_admitted();
            let next = reader.ready.filter(|ready| *ready > self.now);
            for flow in self.advance(next.map_or(end, |ready| ready.min(end))) {
                self.settle(&flow);
                if flow.cause == Cause::Demand {
                    reader.waited.push(self.now - reader.asked);
                    reader.ready = Some(self.now + reader.reads[reader.next].1);
                    reader.next += 1;
                }
            }
        }
    }

    /// The part of the link's capacity that was used.
    fn used(&self) -> f64 {
        let carried: u64 = self.carried.iter().sum();
        carried as f64 / (self.link.rate * (self.now - self.begun).as_secs_f64())
    }
}

impl Reader {
    /// A program's start: chunks of one size or another, work between them of up to `work`.
    fn new(count: usize, work: Duration) -> Reader {
        let mut state = 7_u64;
        let mut roll = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let reads = (0..count).map(|_| {
            let work = Duration::from_micros(roll(work.as_micros() as u64 + 1));
            (100_000 + roll(400_000), work)
        });
        Reader {
            reads: reads.collect(),
            next: 0,
            ready: None,
            asked: Instant::now(),
            waited: Vec::new(),
        }
    }

    fn percentile(&self, part: usize) -> f64 {
        let mut waited = self.waited.clone();
        waited.sort();
        waited[(waited.len() * part / 100).min(waited.len() - 1)].as_secs_f64()
    }
}

fn links() -> Vec<Link> {
    let shapes = [(30, 100e6), (5, 1000e6), (150, 20e6)];
    let mut links = Vec::new();
    for (trip, bits) in shapes {
        for sharing in [Sharing::Fair, Sharing::InTurn] {
            for jitter in [0.0, 0.3] {
                links.push(Link {
                    trip: Duration::from_millis(trip),
                    rate: bits / 8.0,
                    sharing,
                    jitter,
                });
            }
        }
    }
    links
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn readers_wait_hardly_longer_with_background_than_without() {
    for link in links() {
        for work in [1, 20, 200] {
            let work = Duration::from_millis(work);
            let mut alone = Reader::new(400, work);
            World::new(link, &[]).run(&mut alone, LONG);
            for idle in [
                &[(Cause::Background, 0)][..],
                &[(Cause::Background, 0), (Cause::Speculation, 0)],
            ] {
                let mut beside = Reader::new(400, work);
                let mut world = World::new(link, idle);
                world.run(&mut beside, LONG);
                let ratio = |part| beside.percentile(part) / alone.percentile(part);
                assert!(ratio(95) <= 1.3, "{link:?}, {work:?}: {}", ratio(95));
                assert!(ratio(50) <= 1.3, "{link:?}, {work:?}: {}", ratio(50));
                // What the reader leaves is used.
                assert!(world.used() > 0.65, "{link:?}, {work:?}: {}", world.used());
            }
        }
    }
}

#[test]
fn an_idle_link_is_full_from_the_first_second() {
    for link in links() {
        let mut nobody = Reader::new(0, Duration::ZERO);
        for (seconds, least) in [(1, 0.5), (20, 0.85)] {
            let mut world = World::new(link, &[(Cause::Background, 0)]);
            world.run(&mut nobody, Duration::from_secs(seconds));
            assert!(
                world.used() > least,
                "{link:?}, {seconds} s: {}",
                world.used()
            );
        }
    }
}

#[test]
fn images_share_what_is_left_evenly_and_urgent_classes_go_first() {
    for link in links() {
        let mut nobody = Reader::new(0, Duration::ZERO);
        let sources = [(Cause::Background, 1), (Cause::Background, 2)];
        let mut world = World::new(link, &sources);
        world.run(&mut nobody, Duration::from_secs(20));
        let [_, one, other, _] = world.carried_for;
        assert!(one.abs_diff(other) * 20 < one, "{link:?}: {one}, {other}");
        let sources = [(Cause::Background, 1), (Cause::StartUp, 2)];
        let mut world = World::new(link, &sources);
        world.run(&mut nobody, Duration::from_secs(20));
        let [_, start_up, _, background] = world.carried;
        assert!(
            background * 20 < start_up,
            "{link:?}: {background}, {start_up}"
        );
    }
}
