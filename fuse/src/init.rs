//! The kernel's FUSE_INIT request, as bytes that are kept and given to every later server.

use thiserror::Error;

/// Opcode of FUSE_INIT (linux/fuse.h).
const FUSE_INIT: u32 = 26;
/// Major version of the protocol, fixed since 2006 (linux/fuse.h).
const MAJOR: u32 = 7;
/// `struct fuse_in_header`: length, opcode, unique, nodeid, uid, gid, pid, extensions.
const IN_HEADER: usize = 40;
/// `struct fuse_out_header`: length, error, unique.
pub(crate) const OUT_HEADER: usize = 16;
/// The first four fields of `struct fuse_init_in`: major, minor, max_readahead, flags.
const INIT_IN: usize = 16;
/// A FUSE_INIT is 104 bytes at protocol 7.45; no kernel has sent more than a page.
const INIT_MAX: usize = 4096;
/// Flag: the request carries `flags2`, the bits from 32 on.
const FUSE_INIT_EXT: u64 = 1 << 30;
/// Flag: the kernel can be asked to send unanswered requests again (Linux 6.9).
const FUSE_HAS_RESEND: u64 = 1 << 39;

/// Why bytes are not a FUSE_INIT request that a server can answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InitError {
    /// Too short, too long, or another length than its header says.
    #[error("a FUSE_INIT of {actual} bytes whose header says {stated}")]
    Length {
        /// Bytes there are.
        actual: usize,
        /// Bytes that the header claims, 0 when even the header is incomplete.
        stated: usize,
    },
    /// Another request.
    #[error("FUSE opcode {0} where FUSE_INIT (26) was expected")]
    NotInit(u32),
    /// A kernel that speaks another major version.
    #[error("FUSE protocol {major}.{minor}, only major version 7 is known")]
    Version {
        /// Major version of the kernel.
        major: u32,
        /// Minor version of the kernel.
        minor: u32,
    },
}

/// What a FUSE_INIT request says, as far as adopting a session needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitRequest {
    /// Identifies the request; the reply carries it back.
    pub unique: u64,
    /// Minor version of the kernel's protocol (7.`minor`).
    pub minor: u32,
    /// Capability bits that the kernel offers (FUSE_* of linux/fuse.h).
    pub flags: u64,
}

impl InitRequest {
    /// Reads the request from its bytes.
    ///
    /// # Errors
    /// The bytes are no complete FUSE_INIT of major version 7.
    pub fn parse(bytes: &[u8]) -> Result<Self, InitError> {
        let stated = word(bytes, 0).map_or(0, |length| length as usize);
        if stated != bytes.len() || !(IN_HEADER + INIT_IN..=INIT_MAX).contains(&stated) {
            return Err(InitError::Length {
                actual: bytes.len(),
                stated,
            });
        }
        // The length holds both headers, so every field below is there.
        let field = |offset| word(bytes, offset).unwrap_or_default();
        if field(4) != FUSE_INIT {
            return Err(InitError::NotInit(field(4)));
        }
        let (major, minor) = (field(IN_HEADER), field(IN_HEADER + 4));
        if major != MAJOR {
            return Err(InitError::Version { major, minor });
        }
        let mut flags = u64::from(field(IN_HEADER + 12));
        if flags & FUSE_INIT_EXT != 0 {
            flags |= u64::from(word(bytes, IN_HEADER + INIT_IN).unwrap_or_default()) << 32;
        }
        Ok(Self {
            unique: u64::from(field(8)) | u64::from(field(12)) << 32,
            minor,
            flags,
        })
    }

    /// Whether the kernel can send unanswered requests again, so that reads in flight survive
    /// the death of a server (Linux 6.9).
    pub fn can_resend(&self) -> bool {
        self.flags & FUSE_HAS_RESEND != 0
    }
}

/// The 32-bit word of `bytes` at `offset`, in the byte order of the machine as everything on
/// /dev/fuse.
pub(crate) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    Some(u32::from_ne_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, major: u32, flags: u32, flags2: u32) -> Vec<u8> {
        let mut bytes = vec![0; 104];
        let mut put = |offset: usize, value: u32| {
            bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(0, 104);
        put(4, opcode);
        put(8, 2);
        put(40, major);
        put(44, 45);
        put(52, flags);
        put(56, flags2);
        bytes
    }

    #[test]
    fn fields_are_read() {
        let init = InitRequest::parse(&request(26, 7, 1 << 30 | 1, 1 << 7)).unwrap();
        assert_eq!(
            init,
            InitRequest {
                unique: 2,
                minor: 45,
                flags: 1 | 1 << 30 | 1 << 39
            }
        );
        assert!(init.can_resend());
    }

    #[test]
    fn high_flags_count_only_when_announced() {
        let init = InitRequest::parse(&request(26, 7, 1, 1 << 7)).unwrap();
        assert!(!init.can_resend());
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(
            InitRequest::parse(&request(1, 7, 0, 0)),
            Err(InitError::NotInit(1))
        );
        assert_eq!(
            InitRequest::parse(&request(26, 8, 0, 0)),
            Err(InitError::Version {
                major: 8,
                minor: 45
            })
        );
        let whole = request(26, 7, 0, 0);
        for length in 0..whole.len() {
            assert!(
                matches!(
                    InitRequest::parse(&whole[..length]),
                    Err(InitError::Length { .. })
                ),
                "{length} bytes"
            );
        }
    }
}
