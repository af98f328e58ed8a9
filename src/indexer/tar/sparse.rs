//! Sparse maps: where the data of a file with holes belongs. GNU tar has written four forms of
//! them: pairs in the header block (type `S`), and PAX forms 0.0, 0.1 and 1.0.

use crate::tar::entry::DataExtent;
use crate::tar::header::BLOCK;
use crate::tar::number;

/// One pair of a sparse map: data at `offset` of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Length in bytes; zero in the pair that only marks the file's end.
    pub length: u64,
}

/// Offset and length of one pair in an old GNU map: 12 bytes each.
const PAIR: usize = 24;
/// Pairs in a block that continues an old GNU map; the flag for a further block follows them.
const EXTENSION_PAIRS: usize = 21;

/// The part of a header block, or of one that continues it, that holds an old GNU map.
#[derive(Clone, Copy)]
pub struct SparseFields<'a> {
    /// The pairs' bytes.
    pub pairs: &'a [u8],
    /// Whether a further block continues the map.
    pub is_extended: bool,
}

impl<'a> SparseFields<'a> {
    /// Reads a whole block as the continuation of a map.
    pub fn extension(block: &'a [u8; BLOCK]) -> Self {
        let pairs = &block[..EXTENSION_PAIRS * PAIR];
        Self {
            pairs,
            is_extended: block[EXTENSION_PAIRS * PAIR] != 0,
        }
    }

    /// Appends the pairs up to the first unused one. `None` when one is no number.
    pub fn append_to(self, runs: &mut Vec<Run>) -> Option<()> {
        for pair in self.pairs.chunks_exact(PAIR) {
            if pair[0] == 0 {
                break;
            }
            let offset = u64::try_from(number::field(&pair[..PAIR / 2])?).ok()?;
            let length = u64::try_from(number::field(&pair[PAIR / 2..])?).ok()?;
            runs.push(Run { offset, length });
        }
        Some(())
    }
}

/// Makes pairs from a flat list of numbers, as PAX 0.0 and 0.1 give them.
pub fn runs_from_numbers(numbers: &[u64]) -> Option<Vec<Run>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    Some(
        pairs
            .iter()
            .map(|&[offset, length]| Run { offset, length })
            .collect(),
    )
}

/// The map of PAX form 1.0, which stands as text before the file's data: a count, then offset
/// and length of each pair, one number a line, padded to a whole block.
#[derive(Debug, Default)]
pub struct MapText {
    pairs_expected: Option<usize>,
    offset: Option<u64>,
    number: Option<u64>,
    runs: Vec<Run>,
}

impl MapText {
    /// Takes the next byte. Returns whether the map is complete with it.
    ///
    /// # Errors
    /// What is wrong with the text, or that it has more than `limit` pairs.
    pub fn push(&mut self, byte: u8, limit: usize) -> Result<bool, &'static str> {
        if byte.is_ascii_digit() {
            let number = self.number.unwrap_or(0).checked_mul(10);
            let number = number.and_then(|number| number.checked_add(u64::from(byte - b'0')));
            self.number = Some(number.ok_or("a number is too large")?);
            return Ok(false);
        }
        let number = self.number.take().ok_or("a line has no number")?;
        if byte != b'\n' {
            return Err("a number is not followed by a newline");
        }
        match (self.pairs_expected, self.offset.take()) {
            (None, _) => {
                let count = usize::try_from(number).ok().filter(|count| *count <= limit);
                self.pairs_expected = Some(count.ok_or("it has too many extents")?);
            }
            (Some(_), None) => self.offset = Some(number),
            (Some(_), Some(offset)) => self.runs.push(Run {
                offset,
                length: number,
            }),
        }
        Ok(self.offset.is_none() && self.pairs_expected == Some(self.runs.len()))
    }

    /// The pairs read so far.
    pub fn into_runs(self) -> Vec<Run> {
        self.runs
    }
}

/// Places a map's data, which stands back to back in the stream from `data_start` on, `physical`
/// bytes of it, into a file of `logical` bytes.
///
/// # Errors
/// What is wrong with the map: the same checks as GNU tar's, bsdtar's and Go's.
pub fn place(
    runs: &[Run],
    logical: u64,
    data_start: u64,
    physical: u64,
) -> Result<Vec<DataExtent>, &'static str> {
    let mut extents: Vec<DataExtent> = Vec::new();
    let mut file_end = 0_u64;
    let mut used = 0_u64;
    for run in runs {
        let run_end = run
            .offset
            .checked_add(run.length)
            .ok_or("an extent is too large")?;
        if run.offset < file_end {
            return Err("extents overlap or are out of order");
        }
        if run_end > logical {
            return Err("an extent ends behind the file's end");
        }
        let stream_offset = data_start
            .checked_add(used)
            .ok_or("an extent is too large")?;
        // Cannot overflow: runs lie apart, so their sum is at most `run_end`.
        used += run.length;
        file_end = run_end;
        match extents.last_mut() {
            _ if run.length == 0 => {}
            // Data is back to back in the stream, so what touches in the file is one run.
            Some(last) if last.file_offset + last.length == run.offset => last.length += run.length,
            _ => extents.push(DataExtent {
                file_offset: run.offset,
                stream_offset,
                length: run.length,
            }),
        }
    }
    if used != physical {
        return Err("the data is longer or shorter than the map says");
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offset: u64, length: u64) -> Run {
        Run { offset, length }
    }

    fn extent(file_offset: u64, stream_offset: u64, length: u64) -> DataExtent {
        DataExtent {
            file_offset,
            stream_offset,
            length,
        }
    }

    #[test]
    fn places_runs_back_to_back() {
        let runs = [
            run(0, 10),
            run(10, 5),
            run(100, 0),
            run(200, 7),
            run(300, 0),
        ];
        let extents = place(&runs, 300, 1024, 22).unwrap();
        assert_eq!(extents, [extent(0, 1024, 15), extent(200, 1039, 7)]);
        assert_eq!(place(&[run(4096, 0)], 4096, 0, 0).unwrap(), []);
        assert_eq!(place(&[], 4096, 0, 0).unwrap(), []);
    }

    #[test]
    fn an_empty_run_in_a_hole_does_not_join_extents() {
        let extents = place(&[run(0, 5), run(10, 0), run(10, 5)], 20, 0, 10).unwrap();
        assert_eq!(extents, [extent(0, 0, 5), extent(10, 5, 5)]);
    }

    #[test]
    fn refuses_maps_that_lie() {
        assert!(place(&[run(5, 5), run(9, 5)], 100, 0, 10).is_err());
        assert!(place(&[run(5, 5), run(0, 5)], 100, 0, 10).is_err());
        assert!(place(&[run(96, 5)], 100, 0, 5).is_err());
        assert!(place(&[run(u64::MAX, 5)], u64::MAX, 0, 5).is_err());
        assert!(place(&[run(0, 5)], 100, 0, 6).is_err());
        assert!(place(&[run(0, 5)], 100, 0, 4).is_err());
        assert!(place(&[run(0, 5), run(6, 1)], 100, u64::MAX - 4, 6).is_err());
    }

    fn read(text: &[u8]) -> Result<Option<Vec<Run>>, &'static str> {
        let mut map = MapText::default();
        for byte in text {
            if map.push(*byte, 100)? {
                return Ok(Some(map.into_runs()));
            }
        }
        Ok(None)
    }

    #[test]
    fn reads_map_text() {
        assert_eq!(read(b"0\n"), Ok(Some(vec![])));
        assert_eq!(
            read(b"2\n0\n512\n4096\n1\n"),
            Ok(Some(vec![run(0, 512), run(4096, 1)]))
        );
        assert_eq!(read(b"2\n0\n512\n4096\n"), Ok(None));
        for bad in [
            &b"\n"[..],
            b"x\n",
            b"1 \n",
            b"101\n",
            b"-1\n",
            b"99999999999999999999\n",
        ] {
            assert!(read(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
