//! `mount_setattr(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Changes of one mount's attributes; `struct mount_attr` of `<linux/mount.h>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear. To change the access time mode, clear all of
    /// [`ATIME_MASK`] too.
    pub clear: u64,
    /// `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
}

/// `MOUNT_ATTR__ATIME`: the bits that hold the access time mode together.
pub const ATIME_MASK: u64 = 0x70;
/// `MOUNT_ATTR_RDONLY`.
pub const READ_ONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`.
pub const NO_SUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub const NO_DEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`.
pub const NO_EXEC: u64 = 0x8;
/// `MOUNT_ATTR_NOATIME`.
pub const NO_ATIME: u64 = 0x10;
/// `MOUNT_ATTR_STRICTATIME`.
pub const STRICT_ATIME: u64 = 0x20;
/// `MOUNT_ATTR_NODIRATIME`.
pub const NO_DIR_ATIME: u64 = 0x80;
/// `MOUNT_ATTR_NOSYMFOLLOW`.
pub const NO_SYMLINK_FOLLOW: u64 = 0x20_0000;

impl Change {
    /// Whether applying it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation == 0
    }
}

#[repr(C)]
struct MountAttributes {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR_IDMAP`.
const ID_MAP: u64 = 0x10_0000;

/// Applies `change` to the mount that `mount` refers to (a mount's root, or an `O_PATH`
/// descriptor of it), and to every mount below when `recursive`.
///
/// # Errors
/// What mount_setattr(2) reports; `ENOSYS` before Linux 5.12.
pub fn change(mount: BorrowedFd<'_>, change: Change, recursive: bool) -> io::Result<()> {
    apply(
        mount,
        MountAttributes {
            attr_set: change.set,
            attr_clr: change.clear,
            propagation: change.propagation,
            userns_fd: 0,
        },
        recursive,
    )
}

/// Makes the detached mount `mount` show owners through the maps of the user namespace
/// `namespace`, and every mount below it when `recursive`.
///
/// # Errors
/// What mount_setattr(2) reports: `EINVAL` where the filesystem cannot do it, `EPERM` where the
/// filesystem belongs to another user namespace.
pub fn map_ids(
    mount: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    recursive: bool,
) -> io::Result<()> {
    apply(
        mount,
        MountAttributes {
            attr_set: ID_MAP,
            attr_clr: 0,
            propagation: 0,
            userns_fd: u64::from(namespace.as_raw_fd().unsigned_abs()),
        },
        recursive,
    )
}

fn apply(mount: BorrowedFd<'_>, attributes: MountAttributes, recursive: bool) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is an empty terminated string, the structure is the kernel's (first
    // version) with its size, and both outlive the call. rustix 1.1 does not wrap it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// [`change`] of a mount that is given up to the caller's scope.
///
/// # Errors
/// As [`change`].
pub fn changed(mount: OwnedFd, wanted: Change, recursive: bool) -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    if !wanted.is_empty() {
        change(mount.as_fd(), wanted, recursive)?;
    }
    Ok(mount)
}
