//! The file `present`: which leaves of a stream are there.
//!
//! ```text
//! 0   8  magic "brskleaf"
//! 8   4  version, 1                      (all numbers little-endian)
//! 12  4  leaf size in bytes, 65536
//! 16  8  stream size in bytes
//! 24  8  zero
//! 32  B  present: bit i of byte i/8 is leaf i; B is the bit count rounded up to 64, in bytes
//! 32+B B suspect: present leaves that have to be verified again; meaningful beside `clean`
//! ```
//!
//! One byte is rewritten as a leaf comes or goes, so a killed process loses nothing; the order
//! in which these bytes and the stream's reach the disk is not controlled, which is why a file
//! without `clean` beside it makes every present leaf suspect.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use index_format::LEAF_SIZE;

use super::bitmap::LeafSet;

const MAGIC: &[u8; 8] = b"brskleaf";
const VERSION: u32 = 1;
const HEADER_SIZE: usize = 32;

/// Largest stream accepted, 4 TiB: its two bitmaps take 16 MiB of memory, and ext4 could not
/// hold a file much larger.
pub(super) const MAX_STREAM_SIZE: u64 = 4 << 40;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Presence {
    pub(super) stream_size: u64,
    pub(super) present: LeafSet,
    pub(super) suspect: LeafSet,
}

/// Number of leaves of a stream.
pub(super) fn leaf_count(stream_size: u64) -> u64 {
    stream_size.div_ceil(LEAF_SIZE)
}

/// Size of the whole file for a stream of this size.
pub(super) fn file_size(stream_size: u64) -> u64 {
    HEADER_SIZE as u64 + 2 * LeafSet::encoded_size(leaf_count(stream_size))
}

impl Presence {
    pub(super) fn empty(stream_size: u64) -> Presence {
        let none = LeafSet::new(leaf_count(stream_size));
        Presence {
            stream_size,
            present: none.clone(),
            suspect: none,
        }
    }

    /// Reads the file; `None` when it is not a whole and sensible one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Presence> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_SIZE>()?;
        let version = u32::from_le_bytes(*header[8..].first_chunk()?);
        let leaf_size = u32::from_le_bytes(*header[12..].first_chunk()?);
        let stream_size = u64::from_le_bytes(*header[16..].first_chunk()?);
        let known = header.starts_with(MAGIC)
            && version == VERSION
            && u64::from(leaf_size) == LEAF_SIZE
            && stream_size <= MAX_STREAM_SIZE
            && bytes.len() as u64 == file_size(stream_size);
        if !known {
            return None;
        }
        let leaves = leaf_count(stream_size);
        let (present, suspect) = rest.split_at_checked(rest.len() / 2)?;
        Some(Presence {
            stream_size,
            present: LeafSet::decode(present, leaves)?,
            suspect: LeafSet::decode(suspect, leaves)?,
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(file_size(self.stream_size) as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(LEAF_SIZE as u32).to_le_bytes());
        bytes.extend_from_slice(&self.stream_size.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.present.encode());
        bytes.extend_from_slice(&self.suspect.encode());
        bytes
    }
}

/// Rewrites the byte of the file that holds one leaf's presence.
pub(super) fn write_leaf(file: &File, present: &LeafSet, leaf: u64) -> io::Result<()> {
    let (at, byte) = present.encoded_byte(leaf);
    file.write_all_at(&[byte], HEADER_SIZE as u64 + at)
}

#[cfg(test)]
mod tests {
    use super::{Presence, file_size};
    use index_format::LEAF_SIZE;

    #[test]
    fn survives_encoding() {
        let mut presence = Presence::empty(100 * LEAF_SIZE + 1);
        presence.present.insert(100);
        presence.present.insert(7);
        presence.suspect.insert(7);
        let bytes = presence.encode();
        assert_eq!(bytes.len() as u64, file_size(presence.stream_size));
        assert_eq!(Presence::decode(&bytes), Some(presence));
    }

    #[test]
    fn refuses_damaged_headers_and_other_lengths() {
        let good = Presence::empty(5 * LEAF_SIZE).encode();
        // The low bytes of the size are checked against the stream file itself.
        for at in (0..16).chain(19..24) {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert_eq!(Presence::decode(&bad), None, "byte {at}");
        }
        for length in 0..good.len() {
            assert_eq!(Presence::decode(&good[..length]), None, "length {length}");
        }
    }
}
