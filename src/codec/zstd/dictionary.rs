//! Checkpoints: a compact record of a decoder's state between two blocks, and the structured
//! dictionary (RFC 8878 section 5) that brings libzstd into that state.
//!
//! A record is `version flags window offset*3 (length huffman)? (length table)* history`: all
//! numbers are varints, tables come in the order of [`Field::ALL`], only those that the chunk
//! repeats from before it, as the stream described them. The history is sparse.

use super::entropy::Field;
use crate::history::{self, UsedBytes};
use crate::{CodecError, varint};
use index_format::Compression;

/// The first byte of every record. Another one means a record of another version.
const VERSION: u8 = 1;

const FLAG_CHECKSUM: u8 = 1;
const FLAG_HUFFMAN: u8 = 2;
/// Then one bit for each table, in the order of [`Field::ALL`].
const FLAG_TABLES: u8 = 4;
const FLAGS_ALL: u8 = FLAG_CHECKSUM | FLAG_HUFFMAN | (7 * FLAG_TABLES);

/// The longest history of a checkpoint, in bytes. It is made in memory, zeros included, for
/// every chunk decoded, and kept while scanning; stock compressors stay at 8 MiB or below.
pub(super) const MAX_HISTORY: u64 = 32 << 20;

const DICTIONARY_MAGIC: [u8; 4] = 0xEC30_A437u32.to_le_bytes();
/// Any number but zero; the synthetic frame header names none, so it is not compared.
const DICTIONARY_ID: [u8; 4] = [1, 0, 0, 0];
/// A Huffman table of two symbols, where the chunk repeats none: a dictionary must have one.
const DUMMY_HUFFMAN: [u8; 2] = [0x80, 0x10];

/// The state without its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The frame's window in bytes.
    pub(super) window: u64,
    /// Whether a checksum follows the frame's last block.
    pub(super) checksum: bool,
    /// The repeated offsets.
    pub(super) offsets: [u32; 3],
    /// The Huffman table's description, when it is repeated.
    pub(super) huffman: Option<Vec<u8>>,
    /// The descriptions of the FSE tables that are repeated.
    pub(super) tables: [Option<Vec<u8>>; 3],
}

impl Head {
    /// How much history the offsets alone demand: libzstd refuses others.
    pub(super) fn least_history(&self) -> u64 {
        self.offsets.iter().copied().max().unwrap_or(0).into()
    }

    /// The record, with what is `used` of the history right before the chunk.
    pub(super) fn encode(&self, history: &[u8], used: &UsedBytes) -> Vec<u8> {
        let present = self
            .tables
            .iter()
            .enumerate()
            .filter(|(_, table)| table.is_some());
        let tables: u8 = present.map(|(at, _)| FLAG_TABLES << at).sum();
        let checksum = if self.checksum { FLAG_CHECKSUM } else { 0 };
        let huffman = if self.huffman.is_some() {
            FLAG_HUFFMAN
        } else {
            0
        };
        let mut record = vec![VERSION, checksum | huffman | tables];
        varint::write(&mut record, self.window);
        self.offsets
            .iter()
            .for_each(|offset| varint::write(&mut record, (*offset).into()));
        for table in self.huffman.iter().chain(self.tables.iter().flatten()) {
            varint::write(&mut record, table.len() as u64);
            record.extend_from_slice(table);
        }
        let at_least = usize::try_from(self.least_history()).expect("offsets have 32 bits");
        history::encode(&mut record, history, used, at_least);
        record
    }

    /// Reads a record; answers the sparse history after the head as well.
    pub(super) fn parse(record: &[u8]) -> Result<(Head, &[u8]), CodecError> {
        match record.first() {
            Some(&VERSION) => read(&record[1..]).ok_or(bad("damaged head")),
            Some(_) => Err(bad("unknown version")),
            None => Err(bad("empty record")),
        }
    }

    /// The dictionary up to its content.
    pub(super) fn dictionary(&self) -> Vec<u8> {
        let mut dictionary = [DICTIONARY_MAGIC, DICTIONARY_ID].concat();
        dictionary.extend_from_slice(self.huffman.as_deref().unwrap_or(&DUMMY_HUFFMAN));
        for field in [Field::Offset, Field::MatchLength, Field::LiteralLength] {
            match &self.tables[field as usize] {
                Some(description) => dictionary.extend_from_slice(description),
                None => dictionary.extend(field.predefined_description()),
            }
        }
        self.offsets
            .iter()
            .for_each(|offset| dictionary.extend(offset.to_le_bytes()));
        dictionary
    }
}

fn read(mut record: &[u8]) -> Option<(Head, &[u8])> {
    let (&flags, after) = record.split_first()?;
    record = after;
    if flags & !FLAGS_ALL != 0 {
        return None;
    }
    let window = varint::read(&mut record)?;
    let mut offsets = [0; 3];
    for offset in &mut offsets {
        *offset = u32::try_from(varint::read(&mut record)?).ok()?;
    }
    let mut table = |flag| {
        if flags & flag == 0 {
            return Some(None);
        }
        let length = varint::read(&mut record)?;
        varint::take(&mut record, length).map(|table| Some(table.to_vec()))
    };
    let huffman = table(FLAG_HUFFMAN)?;
    let tables = [
        table(FLAG_TABLES)?,
        table(FLAG_TABLES << 1)?,
        table(FLAG_TABLES << 2)?,
    ];
    let checksum = flags & FLAG_CHECKSUM != 0;
    Some((
        Head {
            window,
            checksum,
            offsets,
            huffman,
            tables,
        },
        record,
    ))
}

/// How many bytes before the chunk the record's history holds.
pub(crate) fn history_length(record: &[u8]) -> Result<u64, CodecError> {
    let (_, sparse) = Head::parse(record)?;
    history::length(sparse)
        .filter(|length| *length <= MAX_HISTORY)
        .ok_or(bad("damaged history"))
}

pub(super) fn bad(reason: &'static str) -> CodecError {
    CodecError::Checkpoint {
        compression: Compression::Zstd,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            window: 1 << 21,
            checksum: true,
            offsets: [5, 70_000, 1],
            huffman: Some(vec![1, 2, 3]),
            tables: [None, Some(vec![7]), Some(Vec::new())],
        }
    }

    #[test]
    fn heads_come_back() {
        let plain = Head {
            checksum: false,
            huffman: None,
            tables: [None, None, None],
            ..head()
        };
        for head in [head(), plain] {
            let history = vec![3; 80_000];
            let record = head.encode(&history, &UsedBytes::none(80_000));
            let (read, sparse) = Head::parse(&record).unwrap();
            assert_eq!((read, history::length(sparse)), (head, Some(70_000)));
            assert_eq!(history_length(&record).unwrap(), 70_000);
        }
    }

    #[test]
    fn damage_is_told() {
        let record = head().encode(&[0; 70_000], &UsedBytes::none(70_000));
        for length in 0..15 {
            assert!(Head::parse(&record[..length]).is_err(), "{length} bytes");
        }
        let with = |at: usize, value| {
            let mut record = record.clone();
            record[at] = value;
            Head::parse(&record).is_err()
        };
        assert!(with(0, 2) && with(1, 0x20));
    }
}
