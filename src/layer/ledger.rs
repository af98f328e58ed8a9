//! Which chunks of a layer were brought before anybody asked, and which of them were read.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::{Cause, Layer, plan};

/// The chunk was brought for the start-up set or on speculation.
const BROUGHT: u8 = 1;
/// Somebody has read of it.
const READ: u8 = 2;

/// A mark for each chunk of a layer.
#[derive(Debug)]
pub(super) struct Ledger {
    marks: Box<[AtomicU8]>,
    /// Some chunk was brought, so that reading is to be marked.
    any: AtomicBool,
}

impl Ledger {
    pub(super) fn new(chunks: u32) -> Ledger {
        Ledger {
            marks: (0..chunks).map(|_| AtomicU8::new(0)).collect(),
            any: AtomicBool::new(false),
        }
    }

    /// Chunks have arrived.
    pub(super) fn bring(&self, cause: Cause, chunks: impl IntoIterator<Item = u32>) {
        match cause {
            Cause::StartUp | Cause::Speculation => {}
            // Asked for by a reader, or to complete the image.
            Cause::Demand | Cause::Background => return,
        }
        for chunk in chunks {
            self.mark(chunk, BROUGHT);
        }
        self.any.store(true, Ordering::Relaxed);
    }

    fn mark(&self, chunk: u32, mark: u8) {
        if let Some(marks) = self.marks.get(chunk as usize) {
            marks.fetch_or(mark, Ordering::Relaxed);
        }
    }

    fn is_wasted(&self, chunk: u32) -> bool {
        let marks = self.marks.get(chunk as usize);
        marks.is_some_and(|marks| marks.load(Ordering::Relaxed) == BROUGHT)
    }
}

impl Layer {
    /// A range of the stream has been read.
    pub(super) fn mark_read(&self, range: &Range<u64>) {
        if range.is_empty() || !self.ledger().any.load(Ordering::Relaxed) {
            return;
        }
        for chunk in plan::chunks_of(self.index(), range).into_iter().flatten() {
            self.ledger().mark(chunk, READ);
        }
    }

    /// Compressed bytes of the chunks that were fetched for the start-up set or on speculation,
    /// and that nobody has read of so far.
    pub fn wasted_bytes(&self) -> u64 {
        let length = |number: u32| {
            let chunk = self.chunk(number).ok()?;
            Some(chunk.compressed.end.saturating_sub(chunk.compressed.start))
        };
        (0..self.index().chunk_count())
            .filter(|number| self.ledger().is_wasted(*number))
            .filter_map(length)
            .sum()
    }
}
