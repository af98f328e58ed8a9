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

/// Where a flight's end is announced.
type Announcement = Arc<watch::Sender<Option<Outcome>>>;

/// The chunks of one layer that are being fetched.
#[derive(Debug, Default)]
pub(super) struct Flights {
    chunks: Mutex<HashMap<u32, Announcement>>,
}

/// The right and duty to fetch a run. Dropped without an outcome, it lets the others go on.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) run: Run,
    outcome: Announcement,
    /// `None` when others do not know of this flight.
    flights: Option<Arc<Flights>>,
}

impl Flights {
    /// Of the runs that `group` makes of the chunks nobody fetches: a flight each. For the
    /// other chunks: where to wait.
    pub(super) fn claim(
        self: &Arc<Self>,
        chunks: impl IntoIterator<Item = u32>,
        group: impl FnOnce(Vec<u32>) -> Result<Vec<Run>, ReadError>,
    ) -> Result<(Vec<Flight>, Vec<Landing>), ReadError> {
        let mut flying = self.lock();
        let mut landings = Vec::new();
        let mut free = Vec::new();
        for chunk in chunks {
            match flying.get(&chunk) {
                Some(outcome) => landings.push(Landing {
                    outcome: outcome.subscribe(),
                }),
                None => free.push(chunk),
            }
        }
        let mut flights = Vec::new();
        for run in group(free)? {
            let outcome = Arc::new(watch::Sender::new(None));
            for chunk in run.numbers() {
                flying.insert(chunk, outcome.clone());
            }
            flights.push(Flight {
                run,
                outcome,
                flights: Some(self.clone()),
            });
        }
        Ok((flights, landings))
    }

    /// Whether somebody fetches the chunk.
    pub(super) fn contains(&self, chunk: u32) -> bool {
        self.lock().contains_key(&chunk)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Announcement>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// A flight that nobody else joins: for fetching again what arrived wrong.
    pub(super) fn alone(run: Run) -> Flight {
        Flight {
            run,
            outcome: Arc::new(watch::Sender::new(None)),
            flights: None,
        }
    }

    /// Where to wait for the outcome.
    pub(super) fn landing(&self) -> Landing {
        Landing {
            outcome: self.outcome.subscribe(),
        }
    }

    /// Ends when nobody waits any more.
    pub(super) async fn deserted(&self) {
        self.outcome.closed().await;
    }

    /// Tells everybody who waits.
    pub(super) fn land(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(flights) = &self.flights {
            let mut flying = flights.lock();
            for chunk in self.run.numbers() {
                flying.remove(&chunk);
            }
        }
        self.outcome.send_if_modified(|outcome| {
            let open = outcome.is_none();
            outcome.get_or_insert(Outcome::GivenUp);
            open
        });
    }
}
