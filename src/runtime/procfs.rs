//! A procfs that nobody can have prepared: a mount of its own where that is allowed, the host's
//! `/proc` else, with every file proved to be in it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::defence::Defence;
use crate::error::{Context, Error, Result};

/// Inode of the root of every procfs, `PROC_ROOT_INO` of the kernel.
const ROOT_INODE: u64 = 1;

/// A procfs.
#[derive(Debug)]
pub struct Procfs {
    root: OwnedFd,
}

impl Procfs {
    /// Opens one that shows the namespaces which this process is in.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::Invalid`] where `/proc` is something else.
    pub fn of_host() -> Result<Self> {
        if !Defence::OwnProcfs.is_on() {
            return Ok(Self { root: existing()? });
        }
        let root = match mount() {
            Ok(root) => root,
            // No right to mount: the one that is there, provided it is one.
            Err(_) => existing()?,
        };
        let found = rustix::fs::fstat(&root).doing(|| "stat /proc")?;
        let on = rustix::fs::fstatfs(&root).doing(|| "statfs /proc")?;
        if on.f_type != rustix::fs::PROC_SUPER_MAGIC || found.st_ino != ROOT_INODE {
            return Err(Error::invalid("/proc", "is not the root of a procfs"));
        }
        Ok(Self { root })
    }

    /// Opens a file by its path from the root of procfs: no link is followed and no mount is
    /// crossed.
    ///
    /// # Errors
    /// What openat2(2) reports.
    pub fn open(&self, path: &Path, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let resolve = if Defence::OwnProcfs.is_on() {
            ResolveFlags::BENEATH
                | ResolveFlags::NO_XDEV
                | ResolveFlags::NO_MAGICLINKS
                | ResolveFlags::NO_SYMLINKS
        } else {
            ResolveFlags::empty()
        };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// The directory of this process: its number, as this procfs counts.
    ///
    /// # Errors
    /// [`Error::Os`] where procfs is of a PID namespace that this process is not in.
    pub fn own(&self) -> Result<PathBuf> {
        let number =
            rustix::fs::readlinkat(&self.root, "self", Vec::new()).doing(|| "read /proc/self")?;
        Ok(PathBuf::from(number.to_string_lossy().into_owned()))
    }
}

fn mount() -> std::result::Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn existing() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open("/proc", flags, Mode::empty()).doing(|| "open /proc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_opened_and_links_are_not_followed() {
        let procfs = Procfs::of_host().unwrap();
        let own = procfs.own().unwrap();
        assert_eq!(own, PathBuf::from(std::process::id().to_string()));
        procfs.open(&own.join("status"), OFlags::RDONLY).unwrap();
        for link in ["self/status", "../etc/passwd", "mounts"] {
            assert!(
                procfs.open(Path::new(link), OFlags::RDONLY).is_err(),
                "{link}"
            );
        }
        assert!(procfs.open(&own.join("exe"), OFlags::RDONLY).is_err());
    }
}
