//! Inodes as readers see them.

use crate::error::FormatError;
use crate::index::Index;
use crate::record::{FLAG_IMPLICIT, FLAG_OPAQUE, FLAG_SPARSE, InodeRecord, range_of};
use crate::section::SectionId;
use std::fmt;

/// The number of an inode within one index; also its nodeid on a mount of that index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeNumber(pub u32);

impl InodeNumber {
    /// The root directory, which is FUSE_ROOT_ID of `linux/fuse.h` too.
    pub const ROOT: InodeNumber = InodeNumber(1);
}

impl fmt::Display for InodeNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file, sparse ones included.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// In a layer's index only: the name is removed from the layers below.
    Whiteout,
    /// In a layer's index only: a hardlink to a path that the layer itself does not hold.
    ForeignLink,
}

impl FileKind {
    /// The number that records hold.
    pub const fn number(self) -> u8 {
        match self {
            FileKind::Directory => 1,
            FileKind::Regular => 2,
            FileKind::Symlink => 3,
            FileKind::CharDevice => 4,
            FileKind::BlockDevice => 5,
            FileKind::Fifo => 6,
            FileKind::Socket => 7,
            FileKind::Whiteout => 8,
            FileKind::ForeignLink => 9,
        }
    }

    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<FileKind> {
        Some(match number {
            1 => FileKind::Directory,
            2 => FileKind::Regular,
            3 => FileKind::Symlink,
            4 => FileKind::CharDevice,
            5 => FileKind::BlockDevice,
            6 => FileKind::Fifo,
            7 => FileKind::Socket,
            8 => FileKind::Whiteout,
            9 => FileKind::ForeignLink,
            _ => return None,
        })
    }

    /// Whether the kind only has a meaning while layers are merged and never reaches a mount.
    pub const fn is_marker(self) -> bool {
        matches!(self, FileKind::Whiteout | FileKind::ForeignLink)
    }

    /// Whether the inode has a link target.
    pub const fn has_target(self) -> bool {
        matches!(self, FileKind::Symlink | FileKind::ForeignLink)
    }

    /// Whether the inode is a device.
    pub const fn is_device(self) -> bool {
        matches!(self, FileKind::CharDevice | FileKind::BlockDevice)
    }
}

/// A point in time, to the nanosecond. Before 1970 the seconds are negative and the
/// nanoseconds still count forward, as in `struct timespec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// A device number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Device {
    /// The driver.
    pub major: u32,
    /// The device of that driver.
    pub minor: u32,
}

/// The attributes of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number in this index.
    pub number: InodeNumber,
    /// What it is.
    pub kind: FileKind,
    /// The mode without the kind: at most 0o7777.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of a file; 2 + subdirectories of a directory.
    pub nlink: u32,
    /// Bytes of a regular file or of a symlink's target; 0 for everything else.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Of devices; 0:0 for everything else.
    pub device: Device,
    /// In a merged index: the position of the layer, bottom 0, that the inode came from. A
    /// regular file's bytes are in that layer's stream. 0 in a layer's index.
    pub layer: u32,
    /// In a layer's index: a directory that hides what the layers below have in it.
    pub opaque: bool,
    /// A directory that exists only because something lies in it: a lower directory's own
    /// attributes show through.
    pub implicit: bool,
    /// A regular file with holes.
    pub sparse: bool,
    /// Whether it has xattrs.
    pub has_xattrs: bool,
    /// The directory that holds its first name; the root's is the root.
    pub parent: InodeNumber,
}

impl Inode {
    /// The inode that `record` describes.
    ///
    /// # Errors
    /// A kind that does not exist.
    pub(crate) fn from_record(
        number: InodeNumber,
        record: &InodeRecord,
    ) -> Result<Inode, FormatError> {
        let kind = FileKind::from_number(record.kind).ok_or(FormatError::Inode {
            inode: number.0,
            problem: "unknown kind",
        })?;
        let (low, high) = range_of(record.place);
        let device = if kind.is_device() {
            Device {
                major: low,
                minor: high,
            }
        } else {
            Device::default()
        };
        Ok(Inode {
            number,
            kind,
            permissions: record.permissions.get(),
            uid: record.uid.get(),
            gid: record.gid.get(),
            nlink: record.nlink.get(),
            size: record.size.get(),
            mtime: Timestamp {
                seconds: record.mtime_seconds.get() as i64,
                nanoseconds: record.mtime_nanoseconds.get(),
            },
            device,
            layer: record.layer.get(),
            opaque: record.flags & FLAG_OPAQUE != 0,
            implicit: record.flags & FLAG_IMPLICIT != 0,
            sparse: record.flags & FLAG_SPARSE != 0,
            has_xattrs: record.xattr_set.get() != 0,
            parent: InodeNumber(record.parent.get()),
        })
    }
}

impl Index {
    pub(crate) fn inode_record(&self, inode: InodeNumber) -> Result<&InodeRecord, FormatError> {
        let position = inode
            .0
            .checked_sub(1)
            .ok_or(FormatError::NoSuchInode(inode.0))?;
        self.records::<InodeRecord>(SectionId::Inodes)?
            .get(position as usize)
            .ok_or(FormatError::NoSuchInode(inode.0))
    }

    /// The attributes of an inode.
    ///
    /// # Errors
    /// A number that the index does not have, or a damaged record.
    pub fn inode(&self, inode: InodeNumber) -> Result<Inode, FormatError> {
        Inode::from_record(inode, self.inode_record(inode)?)
    }

    /// The target of a symlink, or the path that a [`FileKind::ForeignLink`] links to.
    ///
    /// # Errors
    /// An inode that is neither, or a damaged record.
    pub fn symlink_target(&self, inode: InodeNumber) -> Result<&[u8], FormatError> {
        let record = self.inode_record(inode)?;
        if !FileKind::from_number(record.kind).is_some_and(FileKind::has_target) {
            return Err(FormatError::NotLink(inode.0));
        }
        let (offset, length) = range_of(record.place);
        self.pool_bytes(offset, length)
    }
}
