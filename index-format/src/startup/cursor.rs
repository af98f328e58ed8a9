//! Reading and writing little-endian fields one after the other.

use crate::digest::Digest;

use super::StartupError;

/// Bytes of the header that both formats begin with.
pub(super) const HEADER_SIZE: u64 = 32;
/// Bytes of the digest that both formats end with.
pub(super) const DIGEST_SIZE: u64 = 32;

/// Reads fields in order. The caller has checked that all of them are there: what is not is zero.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.bytes.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.bytes = rest;
                *field
            }
            None => [0; N],
        }
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub(super) fn digest(&mut self) -> Digest {
        Digest::from_bytes(self.take())
    }
}

/// The header's three counts, once magic and version are known.
pub(super) struct Header {
    pub(super) counts: [u32; 3],
}

impl Header {
    pub(super) fn decode(
        what: &'static str,
        magic: &[u8; 8],
        supported: u16,
        bytes: &[u8],
    ) -> Result<Header, StartupError> {
        let Some(header) = bytes.first_chunk::<{ HEADER_SIZE as usize }>() else {
            return Err(StartupError::Length {
                what,
                expected: HEADER_SIZE,
                found: bytes.len() as u64,
            });
        };
        if !header.starts_with(magic) {
            return Err(StartupError::BadMagic { what });
        }
        let found = u16::from_le_bytes([header[8], header[9]]);
        if found != supported {
            return Err(StartupError::UnsupportedVersion {
                what,
                found,
                supported,
            });
        }
        let mut cursor = Cursor::new(&header[12..]);
        Ok(Header {
            counts: [cursor.u32(), cursor.u32(), cursor.u32()],
        })
    }

    pub(super) fn encode(&self, magic: &[u8; 8], version: u16) -> Vec<u8> {
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        for count in self.counts {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }
}

/// Puts the digest of everything before at the end.
pub(super) fn seal(bytes: &mut Vec<u8>) {
    let digest = Digest::of(bytes);
    bytes.extend_from_slice(digest.as_bytes());
}

/// Checks the length and the digest at the end; gives what is between header and digest.
pub(super) fn unseal<'a>(
    what: &'static str,
    expected: u64,
    bytes: &'a [u8],
) -> Result<&'a [u8], StartupError> {
    let found = bytes.len() as u64;
    if found != expected || expected < HEADER_SIZE + DIGEST_SIZE {
        return Err(StartupError::Length {
            what,
            expected,
            found,
        });
    }
    let (content, digest) = bytes.split_at((expected - DIGEST_SIZE) as usize);
    if Digest::of(content).as_bytes() != digest {
        return Err(StartupError::Damaged { what });
    }
    Ok(&content[HEADER_SIZE as usize..])
}
