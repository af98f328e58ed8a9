//! Masked and read-only paths, made while the host's tree is still there, so that nothing of the
//! image takes part but the path that is covered.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use sys::mount_attributes::{Change, READ_ONLY, change, changed};

use crate::defence::Defence;
use crate::error::{Context, Error, Result};
use crate::rootfs::Root;
use crate::rootfs::mounts::{attach, filesystem, open_existing};

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// Covers each path that is there: a directory with an empty one, anything else with the host's
/// `/dev/null`.
///
/// # Errors
/// [`Error::Os`] naming the path.
pub fn mask(root: &Root, paths: &[String]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = if Defence::HostNull.is_on() {
        host_null()?
    } else {
        root.open("/dev/null", OFlags::PATH)
            .doing(|| "open /dev/null")?
    };
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let action = || format!("mask {path}");
        let Some(target) = open_existing(root, path)? else {
            continue;
        };
        let found = rustix::fs::fstat(&target).doing(action)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            let cover = rustix::mount::open_tree(&null, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)
                .doing(action)?;
            attach(&cover, &target, path)?;
            continue;
        }
        // One empty filesystem serves all; a mount can be cloned only once it is attached.
        let cover = match &empty {
            Some(first) => {
                rustix::mount::open_tree(first, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)
                    .doing(action)?
            }
            None => {
                let made = filesystem("tmpfs", "tmpfs", ["size=0k", "nr_inodes=1"].into_iter())
                    .doing(action)?;
                changed(
                    made,
                    Change {
                        set: READ_ONLY,
                        ..Change::default()
                    },
                    false,
                )
                .doing(action)?
            }
        };
        attach(&cover, &target, path)?;
        empty.get_or_insert(cover);
    }
    Ok(())
}

/// The host's `/dev/null`, verified to be the device.
fn host_null() -> Result<OwnedFd> {
    let action = || "open /dev/null of the host";
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty()).doing(action)?;
    let found = rustix::fs::fstat(&null).doing(action)?;
    let is_null = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == rustix::fs::makedev(1, 3);
    if is_null {
        return Ok(null);
    }
    Err(Error::invalid(
        "/dev/null of the host",
        "is not the null device",
    ))
}

/// Binds each path that is there onto itself, read-only with all below.
///
/// # Errors
/// [`Error::Os`] naming the path.
pub fn read_only(root: &Root, paths: &[String]) -> Result<()> {
    for path in paths {
        let action = || format!("make {path} read-only");
        let Some(target) = open_existing(root, path)? else {
            continue;
        };
        let flags = CLONE | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(&target, "", flags).doing(action)?;
        let wanted = Change {
            set: READ_ONLY,
            ..Change::default()
        };
        change(tree.as_fd(), wanted, true).doing(action)?;
        attach(&tree, &target, path)?;
    }
    Ok(())
}
