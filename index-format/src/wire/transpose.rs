//! Fixed records turned into columns before they are compressed: all first bytes, then all second
//! bytes, and so on. Neighbouring records differ little per column, so this takes a third off
//! the hot part of a large tree, more than the highest zstd level does.

use crate::section::SectionId;

/// The record size by which a section is transposed in the network form; 1: it is not. Digests
/// would gain nothing.
pub(crate) fn stride(section: u32) -> usize {
    match SectionId::from_number(section) {
        Some(
            id @ (SectionId::Inodes
            | SectionId::Entries
            | SectionId::XattrSets
            | SectionId::Xattrs
            | SectionId::Extents
            | SectionId::Chunks),
        ) => id.records().size,
        _ => 1,
    }
}

/// Records to columns. Bytes behind the last whole record stay where they are.
pub(crate) fn to_columns(records: &[u8], stride: usize) -> Vec<u8> {
    let whole = records.len() - records.len() % stride;
    let mut columns = Vec::with_capacity(records.len());
    for column in 0..stride {
        columns.extend(records[..whole].iter().skip(column).step_by(stride));
    }
    columns.extend_from_slice(&records[whole..]);
    columns
}

/// Columns back to records.
pub(crate) fn to_records(columns: &[u8], stride: usize) -> Vec<u8> {
    let count = columns.len() / stride;
    let mut records = vec![0; columns.len()];
    if count > 0 {
        for (column, bytes) in columns.chunks_exact(count).take(stride).enumerate() {
            let places = records[column..].iter_mut().step_by(stride);
            places.zip(bytes).for_each(|(place, byte)| *place = *byte);
        }
    }
    let whole = count * stride;
    records[whole..].copy_from_slice(&columns[whole..]);
    records
}

#[cfg(test)]
mod tests {
    use crate::wire::transpose::{to_columns, to_records};

    #[test]
    fn columns_come_back_as_records_whatever_the_length() {
        assert_eq!(to_columns(b"abcABC12", 3), b"aAbBcC12");
        let bytes: Vec<u8> = (0..=255).collect();
        for stride in [1, 2, 3, 12, 56] {
            for length in 0..bytes.len() {
                let columns = to_columns(&bytes[..length], stride);
                assert_eq!(
                    to_records(&columns, stride),
                    bytes[..length],
                    "{stride} {length}"
                );
            }
        }
    }
}
