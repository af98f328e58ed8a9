//! What fetching a run of chunks has yielded.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::memory::Taken;
use super::plan;
use super::scratch::{self, Part};

/// Whether a leaf within a run matches its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It does.
    Right,
    /// It does not, or its chunk could not be decoded.
    Wrong,
}

/// A run's chunks, decoded. Only leaves with the verdict `Right` may be served.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// The chunks that could be decoded, in the stream's order.
    parts: Vec<Part>,
    /// Leaves looked at; those at the edges only once their other part was known.
    verdicts: BTreeMap<u64, Verdict>,
    /// A leaf found no room in the cache.
    pub(super) no_room: bool,
    /// The memory that it takes.
    pub(super) memory: Option<Taken>,
}

impl Decoded {
    pub(super) fn push_chunk(&mut self, stream: Range<u64>, bytes: Vec<u8>) {
        self.parts.push((stream, Bytes::from(bytes)));
    }

    pub(super) fn judge(&mut self, leaf: u64, verdict: Verdict) {
        self.verdicts.insert(leaf, verdict);
    }

    pub(super) fn verdict(&self, leaf: u64) -> Option<Verdict> {
        self.verdicts.get(&leaf).copied()
    }

    /// Leaves that do not match.
    pub(super) fn wrong(&self) -> impl Iterator<Item = u64> + '_ {
        let wrong = self
            .verdicts
            .iter()
            .filter(|(_, verdict)| **verdict == Verdict::Wrong);
        wrong.map(|(leaf, _)| *leaf)
    }

    /// A copy of what it knows of some leaves: the chunks are long, and a reader who waits for
    /// others as well must not hold them.
    pub(super) fn excerpt(&self, leaves: &[u64], stream_size: u64) -> Decoded {
        let mut excerpt = Decoded::default();
        for leaf in leaves {
            let parts = self.parts_of(&plan::leaf_range(*leaf, stream_size));
            let copies = parts.map(|(range, bytes)| (range, Bytes::copy_from_slice(&bytes)));
            excerpt.parts.extend(copies);
            if let Some(verdict) = self.verdict(*leaf) {
                excerpt.judge(*leaf, verdict);
            }
        }
        excerpt
    }

    /// The unverified bytes of a range, where they were all decoded.
    pub(super) fn bytes(&self, range: &Range<u64>) -> Option<Bytes> {
        let within = |part: &&Part| part.0.start <= range.start && range.end <= part.0.end;
        if let Some((start, bytes)) = self
            .parts
            .iter()
            .find(within)
            .map(|(stream, bytes)| (stream.start, bytes))
        {
            let (from, to) = (range.start - start, range.end - start);
            return Some(bytes.slice(from as usize..to as usize));
        }
        scratch::join(&self.parts, range).map(Bytes::from)
    }

    /// Parts of a leaf that were decoded.
    pub(super) fn parts_of(&self, leaf: &Range<u64>) -> impl Iterator<Item = Part> + '_ {
        let leaf = leaf.clone();
        self.parts.iter().filter_map(move |(stream, bytes)| {
            let (start, end) = (stream.start.max(leaf.start), stream.end.min(leaf.end));
            let slice = |range: Range<u64>| {
                let at = (range.start - stream.start) as usize..(range.end - stream.start) as usize;
                (range, bytes.slice(at))
            };
            (start < end).then(|| slice(start..end))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Decoded;

    #[test]
    fn ranges_come_from_one_chunk_or_several() {
        let mut decoded = Decoded::default();
        decoded.push_chunk(10..20, (10..20).collect());
        decoded.push_chunk(20..25, (20..25).collect());
        decoded.push_chunk(30..40, (30..40).collect());
        assert_eq!(decoded.bytes(&(12..15)).unwrap(), [12, 13, 14][..]);
        assert_eq!(decoded.bytes(&(18..22)).unwrap(), [18, 19, 20, 21][..]);
        assert_eq!(decoded.bytes(&(22..31)), None);
        assert_eq!(decoded.bytes(&(5..12)), None);
        let parts: Vec<_> = decoded
            .parts_of(&(24..32))
            .map(|(range, _)| range)
            .collect();
        assert_eq!(parts, [24..25, 30..32]);
    }
}
