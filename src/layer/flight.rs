//! Single flight: chunks being fetched, so that nobody fetches one twice at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::decoded::Decoded;
use super::plan::Run;
use super::{Cause, ReadError};

/// How fetching a run ended.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// It was fetched and decoded.
    Decoded(Arc<Decoded>),
    /// It failed, after all the attempts that its cause allows.
    Failed(Cause, ReadError),
    /// It was given up half-way.
    GivenUp,
}

/// Waits for the end of somebody's fetch of a run.
#[derive(Debug, Clone)]
pub(super) struct Landing {
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Landing {
    pub(super) async fn outcome(mut self) -> Outcome {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome
            .ok()
            .and_then(|outcome| outcome.clone())
            .unwrap_or(Outcome::GivenUp)
    }
}

/// What a flight and those who wait for it share.
#[derive(Debug)]
struct Tower {
    outcome: watch::Sender<Option<Outcome>>,
    /// A reader waits.
    wanted: watch::Sender<bool>,
}

impl Tower {
    fn new() -> Arc<Tower> {
        Arc::new(Tower {
            outcome: watch::Sender::new(None),
            wanted: watch::Sender::new(false),
        })
    }
}

/// The chunks of one layer that are being fetched.
#[derive(Debug, Default)]
pub(super) struct Flights {
    chunks: Mutex<HashMap<u32, Arc<Tower>>>,
}

/// The right and duty to fetch a run. Dropped without an outcome, it lets the others go on.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) run: Run,
    tower: Arc<Tower>,
    /// `None` when others do not know of this flight.
    flights: Option<Arc<Flights>>,
}

impl Flights {
    /// For a reader: a flight for each of the runs that `group` makes of the chunks nobody
    /// fetches, and where to wait for the others. Those are in a hurry from now on.
    pub(super) fn join(
        self: &Arc<Self>,
        chunks: impl IntoIterator<Item = u32>,
        group: impl FnOnce(Vec<u32>) -> Result<Vec<Run>, ReadError>,
    ) -> Result<(Vec<Flight>, Vec<Landing>), ReadError> {
        let mut flying = self.lock();
        let mut landings = Vec::new();
        let mut free = Vec::new();
        for chunk in chunks {
            match flying.get(&chunk) {
                Some(tower) => {
                    tower.wanted.send_replace(true);
                    landings.push(Landing {
                        outcome: tower.outcome.subscribe(),
                    });
                }
                None => free.push(chunk),
            }
        }
        let flights = group(free)?
            .into_iter()
            .map(|run| self.start(&mut flying, run))
            .collect();
        Ok((flights, landings))
    }

    /// A flight for the first chunks of a run that nobody fetches yet, if there are any. The
    /// run shrinks to them.
    pub(super) fn claim(self: &Arc<Self>, mut run: Run) -> Option<Flight> {
        let mut flying = self.lock();
        let free = |chunk: &index_format::Chunk| !flying.contains_key(&chunk.number);
        let start = run.chunks.iter().position(free)?;
        run.chunks.drain(..start);
        let end = run
            .chunks
            .iter()
            .position(|chunk| !free(chunk))
            .unwrap_or(run.chunks.len());
        run.chunks.truncate(end);
        Some(self.start(&mut flying, run))
    }

    fn start(self: &Arc<Self>, flying: &mut HashMap<u32, Arc<Tower>>, run: Run) -> Flight {
        let tower = Tower::new();
        for chunk in run.numbers() {
            flying.insert(chunk, tower.clone());
        }
        Flight {
            run,
            tower,
            flights: Some(self.clone()),
        }
    }

    /// Whether somebody fetches the chunk.
    pub(super) fn contains(&self, chunk: u32) -> bool {
        self.lock().contains_key(&chunk)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Tower>>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// A flight that nobody else joins: for fetching again what arrived wrong.
    pub(super) fn alone(run: Run) -> Flight {
        Flight {
            run,
            tower: Tower::new(),
            flights: None,
        }
    }

    /// Where to wait for the outcome.
    pub(super) fn landing(&self) -> Landing {
        Landing {
            outcome: self.tower.outcome.subscribe(),
        }
    }

    /// Ends when nobody waits any more.
    pub(super) async fn deserted(&self) {
        self.tower.outcome.closed().await;
    }

    /// Ends when a reader has joined.
    pub(super) async fn wanted(&self) {
        // The sender lives as long as the flight.
        drop(
            self.tower
                .wanted
                .subscribe()
                .wait_for(|wanted| *wanted)
                .await,
        );
    }

    /// Tells everybody who waits.
    pub(super) fn land(mut self, outcome: Outcome) {
        // First, so that whoever comes from now on does not take an old failure for its own.
        self.leave();
        self.tower.outcome.send_replace(Some(outcome));
    }

    /// Nobody joins any more.
    fn leave(&mut self) {
        let Some(flights) = self.flights.take() else {
            return;
        };
        let mut flying = flights.lock();
        for chunk in self.run.numbers() {
            flying.remove(&chunk);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.leave();
        self.tower.outcome.send_if_modified(|outcome| {
            let open = outcome.is_none();
            outcome.get_or_insert(Outcome::GivenUp);
            open
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Flights, Outcome};
    use crate::plan::{self, Run};
    use futures_util::FutureExt;
    use index_format::{Chunk, ChunkFlags};
    use std::sync::Arc;

    fn run(numbers: &[u32]) -> Run {
        let chunk = |number: &u32| Chunk {
            number: *number,
            stream: 0..1,
            compressed: 0..1,
            bit: 0,
            flags: ChunkFlags::FREE,
            checkpoint: 0..0,
        };
        Run {
            chunks: numbers.iter().map(chunk).collect(),
        }
    }

    #[test]
    fn readers_join_what_flies_and_hurry_it() {
        let flights = Arc::new(Flights::default());
        let idle = flights.claim(run(&[3, 4])).unwrap();
        assert!(idle.wanted().now_or_never().is_none());
        let group = |free: Vec<u32>| Ok(plan::runs(run(&free).chunks, u64::MAX));
        let (mine, landings) = flights.join([4, 5], group).unwrap();
        assert_eq!(mine.len(), 1);
        assert_eq!(mine[0].run.numbers().collect::<Vec<_>>(), [5]);
        assert!(idle.wanted().now_or_never().is_some());
        drop(idle);
        let outcome = landings[0].clone().outcome().now_or_never();
        assert!(matches!(outcome, Some(Outcome::GivenUp)));
        assert!(!flights.contains(3) && flights.contains(5));
    }

    #[test]
    fn nobody_joins_a_flight_that_has_landed() {
        let flights = Arc::new(Flights::default());
        let one = flights.claim(run(&[3])).unwrap();
        let landing = one.landing();
        one.land(Outcome::GivenUp);
        let other = flights.claim(run(&[3])).unwrap();
        assert!(landing.outcome().now_or_never().is_some());
        assert!(flights.contains(3));
        assert!(other.landing().outcome().now_or_never().is_none());
    }

    #[test]
    fn a_claim_shrinks_to_what_is_free() {
        let flights = Arc::new(Flights::default());
        let numbers = |flight: &super::Flight| flight.run.numbers().collect::<Vec<_>>();
        let _one = flights.claim(run(&[3])).unwrap();
        let _other = flights.claim(run(&[6])).unwrap();
        let claimed = flights.claim(run(&[3, 4, 5, 6, 7])).unwrap();
        assert_eq!(numbers(&claimed), [4, 5]);
        assert!(flights.claim(run(&[4, 5, 6])).is_none());
        drop(claimed);
        assert_eq!(numbers(&flights.claim(run(&[4, 5, 6])).unwrap()), [4, 5]);
    }
}
