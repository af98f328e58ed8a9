//! A set of leaf numbers as a bitmap.

use std::ops::Range;

/// A set of numbers below a fixed length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeafSet {
    words: Vec<u64>,
    length: u64,
    count: u64,
}

const WORD_BITS: u64 = u64::BITS as u64;

impl LeafSet {
    /// The empty set of numbers below `length`.
    pub(super) fn new(length: u64) -> LeafSet {
        let words =
            usize::try_from(length.div_ceil(WORD_BITS)).expect("bounded by MAX_STREAM_SIZE");
        LeafSet {
            words: vec![0; words],
            length,
            count: 0,
        }
    }

    /// Bytes of the encoded form of a set of this length.
    pub(super) fn encoded_size(length: u64) -> u64 {
        length.div_ceil(WORD_BITS) * (WORD_BITS / 8)
    }

    /// Reads the encoded form; bits at or above `length` are ignored, so that a damaged file
    /// cannot name leaves that do not exist. `None` when the size does not fit.
    pub(super) fn decode(bytes: &[u8], length: u64) -> Option<LeafSet> {
        if bytes.len() as u64 != LeafSet::encoded_size(length) {
            return None;
        }
        let mut set = LeafSet::new(length);
        for (word, bytes) in set.words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        if !length.is_multiple_of(WORD_BITS)
            && let Some(last) = set.words.last_mut()
        {
            *last &= (1 << (length % WORD_BITS)) - 1;
        }
        set.count = set
            .words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum();
        Some(set)
    }

    /// The form on disk: little-endian words.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    /// The byte of the encoded form that holds this leaf, and its position.
    pub(super) fn encoded_byte(&self, leaf: u64) -> (u64, u8) {
        let byte = leaf / 8;
        let word = self.words[(leaf / WORD_BITS) as usize];
        (byte, word.to_le_bytes()[(byte % 8) as usize])
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn contains(&self, leaf: u64) -> bool {
        leaf < self.length && self.words[(leaf / WORD_BITS) as usize] >> (leaf % WORD_BITS) & 1 == 1
    }

    /// Whether every number of the range is in the set. An empty range is.
    pub(super) fn contains_all(&self, leaves: Range<u64>) -> bool {
        leaves.end <= self.length && leaves.into_iter().all(|leaf| self.contains(leaf))
    }

    /// Whether some number of the range is in the set.
    pub(super) fn contains_any(&self, leaves: Range<u64>) -> bool {
        self.count > 0 && leaves.into_iter().any(|leaf| self.contains(leaf))
    }

    /// Adds a number; says whether it was new.
    pub(super) fn insert(&mut self, leaf: u64) -> bool {
        assert!(leaf < self.length, "leaf {leaf} of {}", self.length);
        if self.contains(leaf) {
            return false;
        }
        self.words[(leaf / WORD_BITS) as usize] |= 1 << (leaf % WORD_BITS);
        self.count += 1;
        true
    }

    /// Takes a number out; says whether it was in.
    pub(super) fn remove(&mut self, leaf: u64) -> bool {
        if !self.contains(leaf) {
            return false;
        }
        self.words[(leaf / WORD_BITS) as usize] &= !(1 << (leaf % WORD_BITS));
        self.count -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::LeafSet;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set_and_survives_encoding(
            length in 1u64..300,
            steps in prop::collection::vec((any::<bool>(), 0u64..300), 0..200),
        ) {
            let mut set = LeafSet::new(length);
            let mut model = BTreeSet::new();
            for (add, leaf) in steps {
                let leaf = leaf % length;
                if add {
                    prop_assert_eq!(set.insert(leaf), model.insert(leaf));
                } else {
                    prop_assert_eq!(set.remove(leaf), model.remove(&leaf));
                }
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert!((0..length).all(|leaf| set.contains(leaf) == model.contains(&leaf)));
            let encoded = set.encode();
            for leaf in 0..length {
                let (at, byte) = set.encoded_byte(leaf);
                prop_assert_eq!(encoded[at as usize], byte);
            }
            prop_assert_eq!(LeafSet::decode(&encoded, length), Some(set));
        }
    }

    #[test]
    fn bits_beyond_the_end_are_ignored() {
        let set = LeafSet::decode(&[0xff; 8], 3).unwrap();
        assert_eq!(set.count(), 3);
        assert!(!set.contains(3));
        assert!(LeafSet::decode(&[0xff; 7], 3).is_none());
    }
}
