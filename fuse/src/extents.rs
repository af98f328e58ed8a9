//! From the extents of a file to the pieces of a read.
//!
//! Extents are in the file's order; what none covers is zeros. Damaged ones (out of order,
//! overlapping, beyond the size) give some bytes of the layer's stream, never a panic, and never
//! more or fewer bytes than asked for.

use index_format::{Extent, Inode, StreamOffset};

use crate::content::Piece;
use crate::error::TreeError;

/// Where the bytes of one read are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadPlan {
    /// The pieces, in order.
    pub pieces: Vec<Piece>,
    /// Bytes of all pieces; 0 at and behind the end of the file.
    pub length: usize,
}

impl ReadPlan {
    /// Whether no layer is needed for the answer.
    pub fn is_zeros(&self) -> bool {
        self.pieces
            .iter()
            .all(|piece| matches!(piece, Piece::Zeros { .. }))
    }
}

/// The pieces of `size` bytes of `inode` from `offset`, clipped to the file's size.
pub(crate) fn plan(
    inode: &Inode,
    extents: &[Extent],
    offset: u64,
    size: u32,
) -> Result<ReadPlan, TreeError> {
    let end = inode.size.min(offset.saturating_add(size.into()));
    let mut pieces = Vec::with_capacity(1);
    let mut at = offset;
    for extent in extents {
        let (first, behind) = bounds(extent);
        if at >= end || first >= end {
            break;
        }
        // An empty extent gives nothing, wherever it is said to be.
        if behind <= at || behind <= first {
            continue;
        }
        if first > at {
            pieces.push(Piece::Zeros { length: first - at });
            at = first;
        }
        let length = behind.min(end) - at;
        // `at` is within the extent here: first <= at < behind.
        let stream = extent
            .stream_offset
            .0
            .checked_add(at - first)
            .ok_or(TreeError::Damaged {
                inode: inode.number,
                problem: "an extent beyond the end of any stream",
            })?;
        pieces.push(Piece::Stream {
            layer: inode.layer,
            offset: StreamOffset(stream),
            length,
        });
        at += length;
    }
    if at < end {
        pieces.push(Piece::Zeros { length: end - at });
    }
    // At most `size`, 32 bits.
    let length = end.saturating_sub(offset) as usize;
    Ok(ReadPlan { pieces, length })
}

/// Bytes of a file of `size` bytes that are not in holes.
pub(crate) fn stored(extents: &[Extent], size: u64) -> u64 {
    let all = extents
        .iter()
        .fold(0u64, |sum, extent| sum.saturating_add(extent.length));
    all.min(size)
}

/// The first byte from `offset` on that is no hole.
pub(crate) fn next_data(extents: &[Extent], offset: u64, size: u64) -> Option<u64> {
    extents
        .iter()
        .map(bounds)
        .find(|&(_, behind)| behind > offset)
        .map(|(first, _)| first.max(offset))
        .filter(|&found| found < size)
}

/// The first byte from `offset` on that is in a hole; the end of the file is one.
pub(crate) fn next_hole(extents: &[Extent], offset: u64, size: u64) -> u64 {
    let mut at = offset;
    for (first, behind) in extents.iter().map(bounds) {
        if first > at {
            break;
        }
        at = at.max(behind);
    }
    at.min(size)
}

/// First byte of the extent in the file, and the first one behind it.
fn bounds(extent: &Extent) -> (u64, u64) {
    (
        extent.file_offset.0,
        extent.file_offset.0.saturating_add(extent.length),
    )
}

#[cfg(test)]
mod tests;
