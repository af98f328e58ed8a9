//! An answer being put together from leaves.

use std::ops::Range;

use index_format::LEAF_SIZE;

use super::plan;

/// The bytes of a read, and which leaves of it are still missing.
#[derive(Debug)]
pub(super) struct Answer {
    range: Range<u64>,
    bytes: Vec<u8>,
    missing: Vec<u64>,
}

impl Answer {
    pub(super) fn new(range: Range<u64>) -> Answer {
        let bytes = vec![0; (range.end - range.start) as usize];
        let missing = plan::leaves_of(&range).collect();
        Answer {
            range,
            bytes,
            missing,
        }
    }

    pub(super) fn missing(&self) -> &[u64] {
        &self.missing
    }

    /// Asks for every missing leaf in turn; `fill` gets the part of the stream wanted of it
    /// and the place for its bytes, and says whether it has filled it.
    pub(super) fn fill(&mut self, mut fill: impl FnMut(u64, Range<u64>, &mut [u8]) -> bool) {
        let (range, bytes) = (&self.range, &mut self.bytes);
        self.missing.retain(|leaf| {
            let start = (leaf * LEAF_SIZE).max(range.start);
            let end = ((leaf + 1) * LEAF_SIZE).min(range.end);
            let place = (start - range.start) as usize..(end - range.start) as usize;
            !fill(*leaf, start..end, &mut bytes[place])
        });
    }

    /// The bytes, once nothing is missing.
    pub(super) fn complete(self) -> Result<Vec<u8>, Answer> {
        if self.missing.is_empty() {
            Ok(self.bytes)
        } else {
            Err(self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Answer;
    use index_format::LEAF_SIZE;

    #[test]
    fn leaves_fill_their_part_in_any_order() {
        let range = LEAF_SIZE - 3..2 * LEAF_SIZE + 4;
        let mut answer = Answer::new(range.clone());
        assert_eq!(answer.missing(), [0, 1, 2]);
        answer.fill(|leaf, part, place| {
            assert_eq!(place.len() as u64, part.end - part.start);
            place.fill(leaf as u8);
            leaf != 1
        });
        let mut answer = answer.complete().unwrap_err();
        assert_eq!(answer.missing(), [1]);
        answer.fill(|_, part, place| {
            assert_eq!(part, LEAF_SIZE..2 * LEAF_SIZE);
            place.fill(1);
            true
        });
        let bytes = answer.complete().unwrap();
        assert_eq!(bytes.len() as u64, range.end - range.start);
        assert_eq!((bytes[2], bytes[3], bytes[bytes.len() - 4]), (0, 1, 2));
    }
}
