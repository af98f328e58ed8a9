//! Sequences (RFC 8878 section 3.1.1.3.2): follows a frame's blocks without decoding their
//! literals, for the tables, the repeated offsets and the places that matches come from.

use super::bits::BackwardBits;
use super::block::{Compressed, Huffman, MAX_BLOCK, Mode};
use super::entropy::{Field, Table};

/// Extra bits of each literal length code (RFC 8878 table 15); bases follow from them.
const LITERAL_BITS: [u8; 36] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11,
    12, 13, 14, 15, 16,
];
/// Extra bits of each match length code (RFC 8878 table 16).
const MATCH_BITS: [u8; 53] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
/// The first value of each code: it begins where the one before ends.
const LITERAL_BASES: [u32; 36] = bases(LITERAL_BITS, 0);
const MATCH_BASES: [u32; 53] = bases(MATCH_BITS, 3);

const fn bases<const N: usize>(bits: [u8; N], first: u32) -> [u32; N] {
    let mut bases = [first; N];
    let mut code = 1;
    while code < N {
        bases[code] = bases[code - 1] + (1 << bits[code - 1]);
        code += 1;
    }
    bases
}

/// A frame's state between two blocks.
#[derive(Debug, Clone)]
pub(super) struct FrameState {
    /// Bytes of the frame's content so far.
    pub(super) position: u64,
    /// The three last offsets (RFC 8878 section 3.1.1.5).
    pub(super) offsets: [u32; 3],
    /// The Huffman table's description.
    pub(super) huffman: Option<Vec<u8>>,
    /// In the order of [`Field::ALL`].
    pub(super) tables: [Option<Table>; 3],
}

/// Why a block could not be followed.
pub(super) type Stumbled = &'static str;

impl FrameState {
    /// At a frame's start.
    pub(super) fn new() -> FrameState {
        FrameState {
            position: 0,
            offsets: [1, 4, 8],
            huffman: None,
            tables: [None, None, None],
        }
    }

    /// Goes on by a block that is not compressed.
    pub(super) fn skip(&mut self, size: usize) {
        self.position += size as u64;
    }

    /// Goes on by a compressed block. `matched` is told of every match: where in the frame's
    /// content it comes from, and its length.
    pub(super) fn follow(
        &mut self,
        block: &Compressed<'_>,
        matched: impl FnMut(u64, u32) -> Result<(), Stumbled>,
    ) -> Result<(), Stumbled> {
        match block.huffman {
            Huffman::New(description) => self.huffman = Some(description.to_vec()),
            Huffman::Repeat if self.huffman.is_none() => return Err("no Huffman table to repeat"),
            Huffman::Repeat | Huffman::Unused => {}
        }
        let end = if block.sequences == 0 {
            self.position + block.literals as u64
        } else {
            let bits = self.take_tables(block)?;
            self.follow_sequences(block, bits, matched)?
        };
        if end - self.position > MAX_BLOCK as u64 {
            return Err("a block above 128 KiB");
        }
        self.position = end;
        Ok(())
    }

    /// Takes the block's tables; answers the sequences' bits.
    fn take_tables<'a>(&mut self, block: &Compressed<'a>) -> Result<&'a [u8], Stumbled> {
        let mut rest = block.rest;
        for ((field, mode), table) in Field::ALL
            .into_iter()
            .zip(block.modes)
            .zip(&mut self.tables)
        {
            match mode {
                Mode::Predefined => *table = Some(Table::predefined(field)),
                Mode::Rle => {
                    let (&symbol, after) = rest.split_first().ok_or("a table is cut off")?;
                    *table = Some(Table::repeated(field, symbol).ok_or("an unknown symbol")?);
                    rest = after;
                }
                Mode::Described => {
                    let (new, length) = Table::described(field, rest).ok_or("a bad table")?;
                    *table = Some(new);
                    rest = &rest[length..];
                }
                Mode::Repeat if table.is_none() => return Err("no FSE table to repeat"),
                Mode::Repeat => {}
            }
        }
        Ok(rest)
    }

    fn follow_sequences(
        &mut self,
        block: &Compressed<'_>,
        bits: &[u8],
        mut matched: impl FnMut(u64, u32) -> Result<(), Stumbled>,
    ) -> Result<u64, Stumbled> {
        let [Some(lengths), Some(offsets), Some(matches)] = &self.tables else {
            return Err("no FSE table to repeat");
        };
        let mut bits = BackwardBits::new(bits).ok_or("no end of the sequences")?;
        let mut length_state = lengths.states[bits.read(lengths.log) as usize];
        let mut offset_state = offsets.states[bits.read(offsets.log) as usize];
        let mut match_state = matches.states[bits.read(matches.log) as usize];
        let mut literals_left = block.literals as u64;
        let mut position = self.position;
        for left in (0..block.sequences).rev() {
            // At most 31 + 16 bits, then 16 + 9 + 9 + 8.
            bits.refill();
            let offset_bits = u32::from(offset_state.symbol);
            let offset_value = (1u64 << offset_bits) + bits.read(offset_bits);
            let code = usize::from(match_state.symbol);
            let match_length = MATCH_BASES[code] + bits.read(MATCH_BITS[code].into()) as u32;
            bits.refill();
            let code = usize::from(length_state.symbol);
            let literals = LITERAL_BASES[code] + bits.read(LITERAL_BITS[code].into()) as u32;
            let offset = next_offset(&mut self.offsets, offset_value, literals)?;
            literals_left = (literals_left.checked_sub(literals.into()))
                .ok_or("sequences take more literals than there are")?;
            position += u64::from(literals);
            let from = position
                .checked_sub(offset.into())
                .ok_or("a match before the frame")?;
            matched(from, match_length)?;
            position += u64::from(match_length);
            if left > 0 {
                let state = length_state;
                length_state = lengths.states[next_state(state.base, state.bits, &mut bits)];
                let state = match_state;
                match_state = matches.states[next_state(state.base, state.bits, &mut bits)];
                let state = offset_state;
                offset_state = offsets.states[next_state(state.base, state.bits, &mut bits)];
            }
        }
        if !bits.is_exhausted() {
            return Err("sequences end before or after their bits");
        }
        Ok(position + literals_left)
    }
}

#[inline]
fn next_state(base: u16, bits: u8, stream: &mut BackwardBits<'_>) -> usize {
    usize::from(base) + stream.read(bits.into()) as usize
}

/// The match's offset, and the repeated offsets after it (RFC 8878 section 3.1.1.5).
fn next_offset(offsets: &mut [u32; 3], value: u64, literals: u32) -> Result<u32, Stumbled> {
    let [first, second, third] = *offsets;
    if value > 3 {
        let offset = u32::try_from(value - 3).map_err(|_| "an offset above 32 bits")?;
        *offsets = [offset, first, second];
        return Ok(offset);
    }
    // Without literals the last offset would continue the last match, so the codes shift.
    let (offset, after) = match value + u64::from(literals == 0) {
        1 => (first, [first, second, third]),
        2 => (second, [second, first, third]),
        3 => (third, [third, first, second]),
        _ => (first - 1, [first - 1, first, second]),
    };
    if offset == 0 {
        return Err("an offset of zero");
    }
    *offsets = after;
    Ok(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_those_of_the_rfc() {
        assert_eq!(
            LITERAL_BASES[..17],
            std::array::from_fn::<u32, 17, _>(|at| at as u32)
        );
        assert_eq!(LITERAL_BASES[20..28], [24, 28, 32, 40, 48, 64, 128, 256]);
        assert_eq!(LITERAL_BASES[35], 65_536);
        assert_eq!(
            MATCH_BASES[..33],
            std::array::from_fn::<u32, 33, _>(|at| at as u32 + 3)
        );
        assert_eq!(
            MATCH_BASES[33..45],
            [37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259]
        );
        assert_eq!(MATCH_BASES[52], 65_539);
    }

    #[test]
    fn repeated_offsets_follow_the_rfc() {
        let mut offsets = [10, 20, 30];
        assert_eq!(next_offset(&mut offsets, 103, 1), Ok(100));
        assert_eq!(offsets, [100, 10, 20]);
        assert_eq!(
            (next_offset(&mut offsets, 1, 1), offsets),
            (Ok(100), [100, 10, 20])
        );
        assert_eq!(
            (next_offset(&mut offsets, 2, 1), offsets),
            (Ok(10), [10, 100, 20])
        );
        assert_eq!(
            (next_offset(&mut offsets, 3, 1), offsets),
            (Ok(20), [20, 10, 100])
        );
        assert_eq!(
            (next_offset(&mut offsets, 1, 0), offsets),
            (Ok(10), [10, 20, 100])
        );
        assert_eq!(
            (next_offset(&mut offsets, 2, 0), offsets),
            (Ok(100), [100, 10, 20])
        );
        assert_eq!(
            (next_offset(&mut offsets, 3, 0), offsets),
            (Ok(99), [99, 100, 10])
        );
        assert!(next_offset(&mut [1, 2, 3], 3, 0).is_err());
    }
}
