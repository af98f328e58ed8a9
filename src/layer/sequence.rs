//! Recognises readers that go through the stream in order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Readers followed at a time, per layer. Each one takes 32 bytes.
const READERS: usize = 16;

/// A reader is sequential from its third read on: two could be a header and a body.
const SEQUENTIAL_READS: u32 = 3;

#[derive(Debug, Clone, Copy)]
struct Reader {
    /// Where its first read began.
    start: u64,
    /// Where its last read ended.
    end: u64,
    reads: u32,
    /// How far its stream was asked for ahead.
    ahead: u64,
}

/// The latest readers of one layer.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    readers: Mutex<VecDeque<Reader>>,
}

impl Sequence {
    /// Notes a read. For a sequential reader: the range to have in the cache soon, once per
    /// half of its window. The window is as long as what it has read so far, and at most
    /// `window` bytes: a start that reads many small files in the order of the layer must not
    /// fetch megabytes behind each of them.
    pub(super) fn note(&self, range: &Range<u64>, window: u64) -> Option<Range<u64>> {
        if window == 0 || range.is_empty() {
            return None;
        }
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        // The kernel sends a large read as several requests, which arrive in any order.
        let near = |reader: &Reader| reader.end.abs_diff(range.start) <= range.end - range.start;
        let found = readers
            .iter()
            .position(near)
            .and_then(|at| readers.remove(at));
        let mut reader = found.unwrap_or(Reader {
            start: range.start,
            end: 0,
            reads: 0,
            ahead: 0,
        });
        reader.reads = reader.reads.saturating_add(1);
        reader.end = reader.end.max(range.end);
        let window = window.min(reader.end - reader.start);
        let due = reader.reads >= SEQUENTIAL_READS && reader.ahead < reader.end + window / 2;
        let ahead = due.then(|| reader.ahead.max(reader.end)..reader.end + window);
        if let Some(ahead) = &ahead {
            reader.ahead = ahead.end;
        }
        if readers.len() == READERS {
            readers.pop_back();
        }
        readers.push_front(reader);
        ahead
    }
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    #[test]
    fn a_sequential_reader_is_read_ahead_of_once_per_half_window() {
        let sequence = Sequence::default();
        let mut asked = Vec::new();
        for read in 0..100u64 {
            asked.extend(sequence.note(&(read * 100..read * 100 + 100), 1000));
        }
        assert_eq!(asked[0], 300..600);
        assert!(asked.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert!((15..=25).contains(&asked.len()), "{}", asked.len());
        let longest = asked.iter().map(|ahead| ahead.end - ahead.start).max();
        assert!(longest <= Some(1000), "{longest:?}");
    }

    #[test]
    fn readers_are_followed_apart_and_random_ones_not_at_all() {
        let sequence = Sequence::default();
        let mut asked = 0;
        for read in 0..10u64 {
            for reader in 0..3 {
                let start = reader * 1_000_000 + read * 100;
                asked += u64::from(sequence.note(&(start..start + 100), 1000).is_some());
            }
        }
        assert!(asked >= 3);
        for read in 0..1000u64 {
            let start = read * 7_919_000 % 1_000_003_000 + 10_000_000;
            assert_eq!(sequence.note(&(start..start + 100), 1000), None);
        }
        assert_eq!(sequence.note(&(0..100), 0), None);
    }
}
