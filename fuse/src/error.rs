//! What can go wrong in a mounted tree, and the one table from errors to errno.

use index_format::{FormatError, InodeNumber};
use nix::errno::Errno;
use thiserror::Error;

/// Why a question about the tree has no answer.
#[derive(Debug, Error)]
pub enum TreeError {
    /// An index of one layer, whose whiteouts have a meaning only when it is merged.
    #[error("only a merged index can be mounted")]
    NotMerged,
    /// The index cannot answer: wrong kind of inode, no such inode, or damaged bytes.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A nodeid that never was one of this tree's inodes.
    #[error("no inode has the nodeid {0}")]
    NoSuchNode(u64),
    /// A read of something that holds no bytes.
    #[error("inode {0} is a directory")]
    IsDirectory(InodeNumber),
    /// A name longer than any entry can have.
    #[error("a name of {0} bytes")]
    NameTooLong(usize),
    /// No inode of the tree has xattrs at all.
    #[error("the tree has no xattrs")]
    NoXattrs,
    /// No file of the tree has holes, so data and holes need no question.
    #[error("the tree has no sparse files")]
    NoHoles,
    /// This inode has no such xattr.
    #[error("inode {0} has no such xattr")]
    NoSuchXattr(InodeNumber),
    /// An xattr, or the list of their names, does not fit the caller's buffer.
    #[error("{needed} bytes of xattr do not fit {available}")]
    BufferTooSmall {
        /// Bytes there are.
        needed: usize,
        /// Bytes that the caller has room for.
        available: usize,
    },
    /// Nothing but a hole, or nothing at all, from the offset on.
    #[error("inode {inode} has nothing of that kind from byte {offset} on")]
    NothingThere {
        /// The file.
        inode: InodeNumber,
        /// Where the search started.
        offset: i64,
    },
    /// A way of seeking that the kernel does not leave to the filesystem.
    #[error("seek mode {0}")]
    SeekMode(i32),
    /// The index contradicts itself.
    #[error("inode {inode}: {problem}")]
    Damaged {
        /// The inode.
        inode: InodeNumber,
        /// The rule that is broken.
        problem: &'static str,
    },
}

impl TreeError {
    /// The errno that the caller of a system call gets.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Format(error) => format_errno(error),
            Self::NoSuchNode(_) => Errno::ESTALE,
            Self::IsDirectory(_) => Errno::EISDIR,
            Self::NameTooLong(_) => Errno::ENAMETOOLONG,
            Self::NotMerged => Errno::EINVAL,
            // The kernel remembers ENOSYS and never asks again.
            Self::NoXattrs | Self::NoHoles => Errno::ENOSYS,
            Self::NoSuchXattr(_) => Errno::ENODATA,
            Self::BufferTooSmall { .. } => Errno::ERANGE,
            Self::NothingThere { .. } => Errno::ENXIO,
            Self::SeekMode(_) => Errno::EINVAL,
            Self::Damaged { .. } => Errno::EIO,
        }
    }

    /// Whether the index itself is at fault, which somebody has to be told.
    pub fn is_damage(&self) -> bool {
        self.errno() == Errno::EIO
    }
}

/// Questions asked of the wrong inode have their own errno; the rest is damage.
fn format_errno(error: &FormatError) -> Errno {
    match error {
        FormatError::NoSuchInode(_) => Errno::ESTALE,
        FormatError::NotDirectory(_) => Errno::ENOTDIR,
        FormatError::NotLink(_) | FormatError::NotRegular(_) => Errno::EINVAL,
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_errno() {
        let inode = InodeNumber(7);
        let table = [
            (
                TreeError::Format(FormatError::NoSuchInode(7)),
                Errno::ESTALE,
            ),
            (
                TreeError::Format(FormatError::NotDirectory(7)),
                Errno::ENOTDIR,
            ),
            (TreeError::Format(FormatError::NotLink(7)), Errno::EINVAL),
            (TreeError::Format(FormatError::NotRegular(7)), Errno::EINVAL),
            (TreeError::Format(FormatError::BadMagic), Errno::EIO),
            (TreeError::NoSuchNode(1 << 40), Errno::ESTALE),
            (TreeError::IsDirectory(inode), Errno::EISDIR),
            (TreeError::NameTooLong(256), Errno::ENAMETOOLONG),
            (TreeError::NotMerged, Errno::EINVAL),
            (TreeError::NoXattrs, Errno::ENOSYS),
            (TreeError::NoHoles, Errno::ENOSYS),
            (TreeError::NoSuchXattr(inode), Errno::ENODATA),
            (
                TreeError::BufferTooSmall {
                    needed: 2,
                    available: 1,
                },
                Errno::ERANGE,
            ),
            (TreeError::NothingThere { inode, offset: 0 }, Errno::ENXIO),
            (TreeError::SeekMode(0), Errno::EINVAL),
            (TreeError::Damaged { inode, problem: "" }, Errno::EIO),
        ];
        for (error, errno) in table {
            assert_eq!(error.errno(), errno, "{error}");
            assert_eq!(error.is_damage(), errno == Errno::EIO, "{error}");
        }
    }
}
