//! Blocks and the headers inside them (RFC 8878 sections 3.1.1.2 and 3.1.1.3).

use super::entropy::Field;

/// The length of a block's header.
pub(super) const HEADER_LENGTH: usize = 3;
/// What a block may hold at most, compressed or not, whatever the window.
pub(super) const MAX_BLOCK: usize = 128 * 1024;
/// A last block without content, to end a frame that goes on elsewhere.
pub(super) const EMPTY_LAST: [u8; HEADER_LENGTH] = [1, 0, 0];

/// How a block holds its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// As it is.
    Raw,
    /// One byte, repeated.
    Rle,
    /// Literals and sequences.
    Compressed,
}

/// A block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// Whether the frame ends with it.
    pub(super) last: bool,
    pub(super) kind: BlockKind,
    /// Bytes of content for `Raw` and `Rle`, of the body for `Compressed`.
    pub(super) size: usize,
}

impl BlockHeader {
    /// `None` for the reserved kind and for sizes that no block may have.
    pub(super) fn parse([a, b, c]: [u8; HEADER_LENGTH]) -> Option<BlockHeader> {
        let bits = u32::from_le_bytes([a, b, c, 0]);
        let kind = match bits >> 1 & 3 {
            0 => BlockKind::Raw,
            1 => BlockKind::Rle,
            2 => BlockKind::Compressed,
            _ => return None,
        };
        let header = BlockHeader {
            last: bits & 1 != 0,
            kind,
            size: (bits >> 3) as usize,
        };
        (header.size <= MAX_BLOCK).then_some(header)
    }

    /// Bytes that follow the header.
    pub(super) fn body_length(&self) -> usize {
        match self.kind {
            BlockKind::Raw | BlockKind::Compressed => self.size,
            BlockKind::Rle => 1,
        }
    }
}

/// Where a table comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Predefined,
    Rle,
    Described,
    Repeat,
}

/// The Huffman table of a block's literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Huffman<'a> {
    Unused,
    /// Its description.
    New(&'a [u8]),
    /// That of an earlier block.
    Repeat,
}

/// A compressed block with its headers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compressed<'a> {
    /// Bytes of literals, once decoded.
    pub(super) literals: usize,
    pub(super) huffman: Huffman<'a>,
    /// How many sequences there are.
    pub(super) sequences: usize,
    /// The tables' modes, in the order of [`Field::ALL`]; without meaning for no sequences.
    pub(super) modes: [Mode; 3],
    /// Table descriptions and the sequences' bits.
    pub(super) rest: &'a [u8],
}

impl<'a> Compressed<'a> {
    /// Reads the headers of a compressed block's body; `None` when they make no sense.
    pub(super) fn parse(body: &'a [u8]) -> Option<Compressed<'a>> {
        let (literals, huffman, rest) = parse_literals(body)?;
        let (sequences, rest) = parse_count(rest)?;
        let mut block = Compressed {
            literals,
            huffman,
            sequences,
            modes: [Mode::Repeat; 3],
            rest,
        };
        if sequences == 0 {
            return rest.is_empty().then_some(block);
        }
        let (&modes, rest) = rest.split_first()?;
        if modes & 3 != 0 {
            return None;
        }
        block.modes = [6, 4, 2].map(|shift| match modes >> shift & 3 {
            0 => Mode::Predefined,
            1 => Mode::Rle,
            2 => Mode::Described,
            _ => Mode::Repeat,
        });
        block.rest = rest;
        Some(block)
    }

    /// Whether this block decodes sequences with a table of `field` that an earlier one made.
    pub(super) fn repeats(&self, field: Field) -> bool {
        self.sequences > 0 && self.modes[field as usize] == Mode::Repeat
    }

    /// Whether this block brings its own table of `field`.
    pub(super) fn replaces(&self, field: Field) -> bool {
        self.sequences > 0 && self.modes[field as usize] != Mode::Repeat
    }
}

/// The literals section: regenerated size, Huffman table, and what follows the section.
fn parse_literals(body: &[u8]) -> Option<(usize, Huffman<'_>, &[u8])> {
    let first = *body.first()?;
    let (kind, format) = (first & 3, first >> 2 & 3);
    let header = |length: usize| {
        let bytes = body.get(..length)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0usize, |value, byte| value << 8 | usize::from(*byte)),
        )
    };
    let (header_length, regenerated, compressed) = if kind < 2 {
        let (length, shift) = [(1, 3), (2, 4), (1, 3), (3, 4)][usize::from(format)];
        let regenerated = header(length)? >> shift;
        (length, regenerated, if kind == 0 { regenerated } else { 1 })
    } else {
        let (length, width) = [(3, 10), (3, 10), (4, 14), (5, 18)][usize::from(format)];
        let sizes = header(length)? >> 4;
        (
            length,
            sizes & ((1 << width) - 1),
            sizes >> width & ((1 << width) - 1),
        )
    };
    let (section, rest) = body[header_length..].split_at_checked(compressed)?;
    let huffman = match kind {
        2 => Huffman::New(section.get(..huffman_length(*section.first()?))?),
        3 => Huffman::Repeat,
        _ => Huffman::Unused,
    };
    (regenerated <= MAX_BLOCK).then_some((regenerated, huffman, rest))
}

/// The length of a Huffman table's description, told by its first byte: FSE-compressed
/// weights, or four bits for each (RFC 8878 section 4.2.1.1).
fn huffman_length(first: u8) -> usize {
    let first = usize::from(first);
    if first < 128 {
        1 + first
    } else {
        1 + (first - 127).div_ceil(2)
    }
}

/// The number of sequences, and what follows it.
fn parse_count(section: &[u8]) -> Option<(usize, &[u8])> {
    match *section {
        [a @ 0..=127, ref rest @ ..] => Some((usize::from(a), rest)),
        [a @ 128..=254, b, ref rest @ ..] => {
            Some((usize::from(a - 128) << 8 | usize::from(b), rest))
        }
        [255, a, b, ref rest @ ..] => {
            Some((usize::from(u16::from_le_bytes([a, b])) + 0x7f00, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_headers() {
        let parse = |bits: u32| {
            let [a, b, c, _] = bits.to_le_bytes();
            BlockHeader::parse([a, b, c])
        };
        let header = |last, kind, size| Some(BlockHeader { last, kind, size });
        assert_eq!(parse(5 << 3 | 1), header(true, BlockKind::Raw, 5));
        assert_eq!(
            parse(131_072 << 3 | 2),
            header(false, BlockKind::Rle, 131_072)
        );
        assert_eq!(parse(131_073 << 3 | 2), None);
        assert_eq!(parse(7 << 3 | 6), None);
        assert_eq!(
            BlockHeader::parse(EMPTY_LAST),
            header(true, BlockKind::Raw, 0)
        );
        assert_eq!(parse(9 << 3 | 2).unwrap().body_length(), 1);
    }

    #[test]
    fn literals_of_every_size_format() {
        let literals = |body: &[u8]| parse_literals(body).map(|(size, _, rest)| (size, rest.len()));
        assert_eq!(literals(&[3 << 3, 1, 2, 3, 99]), Some((3, 1)));
        assert_eq!(literals(&[1 << 3 | 1 | 2 << 2, 7, 99]), Some((1, 1)));
        assert_eq!(literals(&[0xf0 | 1 << 2 | 1, 0xff, 7]), Some((4095, 0)));
        assert_eq!(literals(&[0x10 | 3 << 2 | 1, 0, 1, 7]), Some((4097, 0)));
        // Compressed, 2 of 5 bytes: direct weights for one symbol.
        assert_eq!(
            literals(&[5 << 4 | 2, 0x80, 0, 0x80, 0x10, 42]),
            Some((5, 1))
        );
        assert_eq!(literals(&[5 << 4 | 2, 0x80, 0, 0x80]), None);
        assert_eq!(literals(&[]), None);
    }

    #[test]
    fn sequence_counts() {
        assert_eq!(parse_count(&[0, 7]), Some((0, &[7][..])));
        assert_eq!(parse_count(&[127]), Some((127, &[][..])));
        assert_eq!(parse_count(&[129, 2]), Some((258, &[][..])));
        assert_eq!(parse_count(&[255, 1, 1]), Some((0x7f00 + 257, &[][..])));
        assert_eq!(parse_count(&[255, 1]), None);
        assert_eq!(parse_count(&[]), None);
    }
}
