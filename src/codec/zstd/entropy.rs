//! FSE tables (RFC 8878 section 4.1): their descriptions and what decodes with them.

use super::bits::ForwardBits;

/// What a table's symbols mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    LiteralLength,
    Offset,
    MatchLength,
}

impl Field {
    /// In the order of the modes byte of a block.
    pub(super) const ALL: [Field; 3] = [Field::LiteralLength, Field::Offset, Field::MatchLength];

    /// The highest symbol. For offsets this is what libzstd takes; the RFC leaves it open.
    pub(super) fn max_symbol(self) -> u8 {
        match self {
            Field::LiteralLength => 35,
            Field::Offset => 31,
            Field::MatchLength => 52,
        }
    }

    /// The highest accuracy (RFC 8878 section 3.1.1.3.2.1).
    fn max_log(self) -> u32 {
        match self {
            Field::LiteralLength | Field::MatchLength => 9,
            Field::Offset => 8,
        }
    }

    /// The distribution that both sides know (RFC 8878 section 3.1.1.3.2.2).
    fn predefined(self) -> Distribution {
        let (log, counts): (u32, &[i16]) = match self {
            Field::LiteralLength => (6, &LITERAL_LENGTHS),
            Field::Offset => (5, &OFFSETS),
            Field::MatchLength => (6, &MATCH_LENGTHS),
        };
        Distribution {
            log,
            counts: counts.to_vec(),
        }
    }

    /// The predefined distribution in the form that a dictionary holds.
    pub(super) fn predefined_description(self) -> Vec<u8> {
        self.predefined().describe()
    }
}

const LITERAL_LENGTHS: [i16; 36] = [
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
    -1, -1, -1, -1,
];
const OFFSETS: [i16; 29] = [
    1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
];
const MATCH_LENGTHS: [i16; 53] = [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
];

/// How many of a table's 2^log states each symbol has; -1 stands for "less than one".
#[derive(Debug, Clone, PartialEq, Eq)]
struct Distribution {
    log: u32,
    counts: Vec<i16>,
}

/// The lowest accuracy; descriptions count from it.
const MIN_LOG: u32 = 5;

impl Distribution {
    /// Reads a description; answers it and its length in bytes.
    fn read(data: &[u8], field: Field) -> Option<(Distribution, usize)> {
        let mut bits = ForwardBits::new(data);
        let log = MIN_LOG + bits.read(4) as u32;
        if log > field.max_log() {
            return None;
        }
        let mut remaining = (1i32 << log) + 1;
        let (mut threshold, mut width) = (1i32 << log, log + 1);
        let mut counts = Vec::new();
        while remaining > 1 {
            if counts.len() > usize::from(field.max_symbol()) {
                return None;
            }
            // Values below `short` are told in one bit less.
            let short = 2 * threshold - 1 - remaining;
            let low = bits.peek(width - 1) as i32;
            let value = if low < short {
                bits.skip(width - 1);
                low
            } else {
                let value = bits.read(width) as i32;
                if value >= threshold {
                    value - short
                } else {
                    value
                }
            };
            let count = value - 1;
            remaining -= count.abs();
            counts.push(i16::try_from(count).ok()?);
            while remaining > 1 && remaining < threshold {
                width -= 1;
                threshold >>= 1;
            }
            if count == 0 {
                skip_zeros(&mut bits, &mut counts, field)?;
            }
        }
        let length = bits.bytes_read().filter(|_| remaining == 1)?;
        let fits = counts.len() <= usize::from(field.max_symbol()) + 1;
        fits.then_some((Distribution { log, counts }, length))
    }

    /// The inverse of `read`.
    fn describe(&self) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.write((self.log - MIN_LOG) as i32, 4);
        let mut remaining = (1i32 << self.log) + 1;
        let (mut threshold, mut width) = (1i32 << self.log, self.log + 1);
        let mut symbols = self.counts.iter().map(|count| i32::from(*count)).peekable();
        while remaining > 1
            && let Some(count) = symbols.next()
        {
            let short = 2 * threshold - 1 - remaining;
            remaining -= count.abs();
            let value = if count + 1 >= threshold {
                count + 1 + short
            } else {
                count + 1
            };
            bits.write(value, if value < short { width - 1 } else { width });
            while remaining < threshold && threshold > 1 {
                width -= 1;
                threshold >>= 1;
            }
            if count == 0 {
                let mut zeros = 0;
                while symbols.next_if_eq(&0).is_some() {
                    zeros += 1;
                }
                (0..zeros / 3).for_each(|_| bits.write(3, 2));
                bits.write(zeros % 3, 2);
            }
        }
        bits.bytes
    }
}

/// After a symbol without states: two bits say how many more follow, three meaning "and more".
fn skip_zeros(bits: &mut ForwardBits<'_>, counts: &mut Vec<i16>, field: Field) -> Option<()> {
    loop {
        let zeros = bits.read(2);
        counts.extend((0..zeros).map(|_| 0));
        if counts.len() > usize::from(field.max_symbol()) + 1 {
            return None;
        }
        if zeros < 3 {
            return Some(());
        }
    }
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    fn write(&mut self, value: i32, count: u32) {
        for bit in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("pushed above");
            *last |= ((value >> bit & 1) as u8) << self.used;
            self.used = (self.used + 1) % 8;
        }
    }
}

/// One state: its symbol, and how the next state follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) symbol: u8,
    pub(super) bits: u8,
    pub(super) base: u16,
}

/// Where a table came from, which says how a dictionary can hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Predefined,
    /// One symbol, no bits: no dictionary can say that.
    Repeated,
    /// Its description in the stream.
    Described(Vec<u8>),
}

/// A table to decode with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) log: u32,
    pub(super) states: Vec<State>,
    pub(super) origin: Origin,
}

impl Table {
    pub(super) fn predefined(field: Field) -> Table {
        build(&field.predefined(), Origin::Predefined)
    }

    /// The table of a single symbol.
    pub(super) fn repeated(field: Field, symbol: u8) -> Option<Table> {
        let states = vec![State {
            symbol,
            bits: 0,
            base: 0,
        }];
        let table = Table {
            log: 0,
            states,
            origin: Origin::Repeated,
        };
        (symbol <= field.max_symbol()).then_some(table)
    }

    /// Reads a description off the front of `data`; answers the table and the length.
    pub(super) fn described(field: Field, data: &[u8]) -> Option<(Table, usize)> {
        let (distribution, length) = Distribution::read(data, field)?;
        let table = build(&distribution, Origin::Described(data[..length].to_vec()));
        Some((table, length))
    }
}

/// Spreads the symbols over the states (RFC 8878 section 4.1.1).
fn build(distribution: &Distribution, origin: Origin) -> Table {
    let size = 1usize << distribution.log;
    let mut states = vec![State::default(); size];
    let mut next = vec![0u32; distribution.counts.len()];
    let mut high = size;
    for (symbol, &count) in distribution.counts.iter().enumerate() {
        if count == -1 {
            high -= 1;
            states[high].symbol = symbol as u8;
            next[symbol] = 1;
        } else {
            next[symbol] = u32::from(count.unsigned_abs());
        }
    }
    let step = (size >> 1) + (size >> 3) + 3;
    let mut position = 0;
    for (symbol, &count) in distribution.counts.iter().enumerate() {
        for _ in 0..count.max(0) {
            states[position].symbol = symbol as u8;
            position = (position + step) & (size - 1);
            while position >= high {
                position = (position + step) & (size - 1);
            }
        }
    }
    for state in &mut states {
        let number = &mut next[usize::from(state.symbol)];
        let bits = distribution.log - number.ilog2();
        state.bits = bits as u8;
        state.base = ((*number << bits) as usize - size) as u16;
        *number += 1;
    }
    Table {
        log: distribution.log,
        states,
        origin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn predefined_tables_survive_their_description() {
        for field in Field::ALL {
            let description = field.predefined_description();
            let (table, length) = Table::described(field, &description).unwrap();
            assert_eq!(length, description.len());
            assert_eq!(table.states, Table::predefined(field).states);
        }
    }

    /// Appendix A of RFC 8878 lists the predefined tables; a few rows of each.
    #[test]
    fn predefined_tables_are_those_of_the_rfc() {
        let row = |field, at: usize| {
            let State { symbol, bits, base } = Table::predefined(field).states[at];
            (symbol, bits, base)
        };
        assert_eq!(row(Field::LiteralLength, 0), (0, 4, 0));
        assert_eq!(row(Field::LiteralLength, 1), (0, 4, 16));
        assert_eq!(row(Field::LiteralLength, 2), (1, 5, 32));
        assert_eq!(row(Field::LiteralLength, 63), (32, 6, 0));
        assert_eq!(row(Field::MatchLength, 0), (0, 6, 0));
        assert_eq!(row(Field::MatchLength, 1), (1, 4, 0));
        assert_eq!(row(Field::MatchLength, 63), (46, 6, 0));
        assert_eq!(row(Field::Offset, 0), (0, 5, 0));
        assert_eq!(row(Field::Offset, 31), (24, 5, 0));
    }

    #[test]
    fn bad_descriptions_are_refused() {
        // An accuracy above the limit, an end too early, a symbol too high.
        assert!(Table::described(Field::Offset, &[4, 0, 0, 0]).is_none());
        assert!(Table::described(Field::Offset, &[0x10]).is_none());
        let zeros = [0x10, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(Table::described(Field::LiteralLength, &zeros).is_none());
        assert!(Table::repeated(Field::MatchLength, 53).is_none());
    }

    /// A distribution over up to 32 symbols, by dealing out the states.
    fn distribution() -> impl Strategy<Value = Distribution> {
        (5u32..=8, proptest::collection::vec(any::<u16>(), 1..=256)).prop_map(|(log, picks)| {
            let mut counts = vec![0i16; 32];
            let mut left = 1i32 << log;
            for (turn, pick) in picks.iter().cycle().enumerate() {
                let symbol = usize::from(*pick) % (1 + turn % 32);
                match counts[symbol] {
                    // One state becomes two.
                    -1 => counts[symbol] = 2,
                    0 if pick & 0x8000 != 0 => counts[symbol] = -1,
                    ref mut count => *count += 1,
                }
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            while counts.last() == Some(&0) {
                counts.pop();
            }
            Distribution { log, counts }
        })
    }

    proptest! {
        #[test]
        fn descriptions_come_back(distribution in distribution()) {
            let mut description = distribution.describe();
            let length = description.len();
            description.extend([0xa5; 3]);
            let (read, taken) = Distribution::read(&description, Field::Offset).unwrap();
            prop_assert_eq!((read, taken), (distribution, length));
        }

        #[test]
        fn any_bytes_are_a_table_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for field in Field::ALL {
                if let Some((table, length)) = Table::described(field, &bytes) {
                    prop_assert!(length <= bytes.len());
                    prop_assert_eq!(table.states.len(), 1 << table.log);
                    let reach = |s: &State| usize::from(s.base) + (1 << s.bits);
                    prop_assert!(table.states.iter().all(|s| reach(s) <= table.states.len()));
                }
            }
        }
    }
}
