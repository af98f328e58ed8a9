//! Images that are being resolved for containerd, or just were: whoever asks for one shares the
//! answer.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::daemon::remote::documents::Document;
use brisk_snapshotter::remote::ImageLabels;

/// A pull that goes on asks for its next layer sooner than this.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// The answer to everyone who asks for an image.
pub type Flight = Shared<BoxFuture<'static, Option<Arc<Document>>>>;

/// The answers that are remembered.
#[derive(Default)]
pub struct Flights {
    known: Mutex<HashMap<ImageLabels, Entry>>,
}

struct Entry {
    flight: Flight,
    document: Option<String>,
    used: Instant,
}

impl Flights {
    /// The answer for these labels; `start` makes it where nobody has asked.
    pub fn join<F>(&self, labels: &ImageLabels, start: impl FnOnce() -> F) -> Flight
    where
        F: Future<Output = Option<Arc<Document>>> + Send + 'static,
    {
        let mut known = self.lock();
        let entry = known.entry(labels.clone()).or_insert_with(|| Entry {
            flight: start().boxed().shared(),
            document: None,
            used: Instant::now(),
        });
        entry.used = Instant::now();
        entry.flight.clone()
    }

    /// The answer is good, and its document is to be kept.
    pub fn landed(&self, labels: &ImageLabels, document: &str) {
        if let Some(entry) = self.lock().get_mut(labels) {
            entry.document = Some(document.to_owned());
        }
    }

    /// There is no good answer: who asks next tries again.
    pub fn failed(&self, labels: &ImageLabels) {
        self.lock().remove(labels);
    }

    /// The snapshots of that document's image are all there: their records keep it.
    pub fn complete(&self, document: &str) {
        let is_other = |entry: &mut Entry| entry.document.as_deref() != Some(document);
        self.lock().retain(|_, entry| is_other(entry));
    }

    /// Forgets the answers that nobody has asked for any more; true where there were some.
    pub fn expire(&self) -> bool {
        let mut known = self.lock();
        let before = known.len();
        known.retain(|_, e| e.document.is_none() || e.used.elapsed() < ABANDONED_AFTER);
        known.len() < before
    }

    /// The documents that are to be kept though no snapshot may name them yet.
    pub fn documents(&self) -> HashSet<String> {
        let known = self.lock();
        known.values().filter_map(|e| e.document.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ImageLabels, Entry>> {
        self.known.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> ImageLabels {
        ImageLabels {
            reference: "h/a:1".to_owned(),
            manifest: None,
        }
    }

    #[test]
    fn one_answer_for_all_until_it_is_complete_or_fails() {
        let flights = Flights::default();
        let mut starts = 0;
        let mut join = |flights: &Flights| {
            drop(flights.join(&labels(), || {
                starts += 1;
                std::future::ready(None)
            }));
            starts
        };
        assert_eq!(join(&flights), 1);
        assert_eq!(join(&flights), 1);
        flights.landed(&labels(), "d");
        assert!(!flights.expire());
        assert_eq!(flights.documents(), HashSet::from(["d".to_owned()]));
        flights.complete("other");
        assert_eq!(join(&flights), 1);
        flights.complete("d");
        assert!(flights.documents().is_empty());
        assert_eq!(join(&flights), 2);
        flights.failed(&labels());
        assert_eq!(join(&flights), 3);
    }
}
