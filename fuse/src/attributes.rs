//! What stat(2) shows of an inode.

use index_format::{Device, FileKind, Inode, InodeNumber, Timestamp};

use crate::error::TreeError;

/// Preferred size of reads, and the unit in which space is counted: ext4's block. Programs take
/// their buffer size from it, so a container sees what it would see unpacked on disk.
pub const BLOCK_SIZE: u32 = 4096;

/// The unit of `st_blocks`, whatever the block size is (stat(2)).
const STAT_BLOCK: u64 = 512;

/// Attributes of one inode. Access and change times are the modification time: a tar has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number, which is the nodeid.
    pub number: InodeNumber,
    /// File type; never a whiteout or a foreign link.
    pub kind: FileKind,
    /// Mode bits without the type: 07777.
    pub permissions: u16,
    /// Names of the file.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file or of a symlink's target; of a directory, one block.
    pub size: u64,
    /// Occupied space in units of 512 bytes; holes occupy none.
    pub blocks: u64,
    /// Last modification, exact: a wrong one makes a program's compiled caches stale.
    pub mtime: Timestamp,
    /// Device number in the kernel's 32-bit form, 0 for everything but devices.
    pub rdev: u32,
}

impl Attributes {
    /// Attributes of `inode`, of whose size `stored` bytes are not holes.
    ///
    /// # Errors
    /// The device number does not fit the kernel's form.
    pub(crate) fn of(inode: &Inode, stored: u64) -> Result<Self, TreeError> {
        let (size, occupied) = match inode.kind {
            FileKind::Directory => (u64::from(BLOCK_SIZE), u64::from(BLOCK_SIZE)),
            FileKind::Regular => (inode.size, stored),
            // A symlink's target lies in its inode.
            _ => (inode.size, 0),
        };
        let rdev = if inode.kind.is_device() {
            encode_device(inode.device).ok_or(TreeError::Damaged {
                inode: inode.number,
                problem: "device number beyond 12 bits of major and 20 of minor",
            })?
        } else {
            0
        };
        Ok(Self {
            number: inode.number,
            kind: inode.kind,
            permissions: inode.permissions & 0o7777,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            size,
            blocks: occupied.div_ceil(u64::from(BLOCK_SIZE)) * (u64::from(BLOCK_SIZE) / STAT_BLOCK),
            mtime: inode.mtime,
            rdev,
        })
    }
}

/// `new_encode_dev` of linux/kdev_t.h, the form of device numbers in `struct fuse_attr`: the low
/// 8 bits of the minor, 12 bits of major, the other 12 of the minor.
fn encode_device(device: Device) -> Option<u32> {
    let Device { major, minor } = device;
    if major >> 12 != 0 || minor >> 20 != 0 {
        return None;
    }
    Some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_have_the_kernels_form() {
        // /dev/null, and a number that needs every bit.
        assert_eq!(encode_device(Device { major: 1, minor: 3 }), Some(0x103));
        assert_eq!(
            encode_device(Device {
                major: 0xfff,
                minor: 0xf_ffff
            }),
            Some(u32::MAX)
        );
        assert_eq!(
            encode_device(Device {
                major: 0x123,
                minor: 0x4_5678
            }),
            Some(0x4561_2378)
        );
        assert_eq!(
            encode_device(Device {
                major: 0x1000,
                minor: 0
            }),
            None
        );
        assert_eq!(
            encode_device(Device {
                major: 0,
                minor: 0x10_0000
            }),
            None
        );
    }
}
