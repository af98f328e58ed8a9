//! Where in a layer readers have asked for something lately: what lies behind it, the rest of a
//! file and its neighbours in the directory, is more likely to be asked for than the rest.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Chunks behind a place that are brought before what is elsewhere: some files of the usual
/// size, or a directory of small ones.
const REACH: u32 = 16;

/// Places remembered for a layer. What is older has cooled down.
const PLACES: usize = 64;

/// Chunks to be brought soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// When it was read: larger is later, over all layers.
    time: u64,
    /// The first chunk that was not looked at.
    pub(super) next: u32,
    /// The first chunk that is too far away.
    pub(super) end: u32,
}

/// The places of one layer, the latest last.
#[derive(Debug, Default)]
pub(super) struct Warmth {
    places: Mutex<VecDeque<Place>>,
}

impl Warmth {
    /// A reader has asked for a chunk.
    pub(super) fn note(&self, time: u64, chunk: u32) {
        let mut places = self.lock();
        let next = chunk.saturating_add(1);
        // A reader that goes on takes its place along.
        places.retain(|place| !(place.next..=place.end).contains(&next));
        if places.len() == PLACES {
            places.pop_front();
        }
        places.push_back(Place {
            time,
            next,
            end: next.saturating_add(REACH),
        });
    }

    /// When the latest place was read.
    pub(super) fn latest(&self) -> Option<u64> {
        self.lock().back().map(|place| place.time)
    }

    /// Takes the latest place out.
    pub(super) fn take(&self) -> Option<Place> {
        self.lock().pop_back()
    }

    /// Puts a place back, unless all of it was looked at.
    pub(super) fn put_back(&self, place: Place) {
        let mut places = self.lock();
        if place.next < place.end && places.len() < PLACES {
            let at = places.partition_point(|other| other.time <= place.time);
            places.insert(at, place);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{PLACES, REACH, Warmth};

    #[test]
    fn the_latest_place_comes_first_and_a_reader_takes_it_along() {
        let warmth = Warmth::default();
        warmth.note(1, 100);
        warmth.note(2, 7);
        warmth.note(3, 101);
        assert_eq!(warmth.latest(), Some(3));
        let mut place = warmth.take().unwrap();
        assert_eq!((place.next, place.end), (102, 102 + REACH));
        // Somebody asks while the place is out.
        warmth.note(4, 50);
        place.next += 1;
        warmth.put_back(place);
        let order: Vec<u32> = std::iter::from_fn(|| warmth.take())
            .map(|place| place.next)
            .collect();
        assert_eq!(order, [51, 103, 8]);
    }

    #[test]
    fn old_and_spent_places_are_forgotten() {
        let warmth = Warmth::default();
        for time in 0..100 {
            warmth.note(time, time as u32 * 1000);
        }
        let mut place = warmth.take().unwrap();
        place.next = place.end;
        warmth.put_back(place);
        let left = std::iter::from_fn(|| warmth.take()).count();
        assert_eq!(left, PLACES - 1);
    }
}
