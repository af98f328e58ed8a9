//! Changing the root.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags};
use sys::mount_attributes::{Change, READ_ONLY, change};

use crate::error::{Context, Error, Result};
use crate::rootfs::mounts::attach;
use crate::rootfs::{Root, options};

/// Keeps the container's mounts from reaching the host. By default the host's still reach the
/// container. Where both ways are asked for, only the place of the root itself is kept apart, in
/// [`bind_root`].
///
/// # Errors
/// [`Error::Os`].
pub fn detach_from_host(propagation: &str) -> Result<()> {
    let slave = u64::from(MountPropagationFlags::DOWNSTREAM.bits());
    let private = u64::from(MountPropagationFlags::PRIVATE.bits());
    match options::propagation(propagation) {
        Some((flag, _)) if flag == u64::from(MountPropagationFlags::SHARED.bits()) => Ok(()),
        // An unbindable tree could not give the root its mount; it becomes so at the end.
        Some((flag, _)) if flag != slave => set("/", private, true),
        _ => set("/", slave, true),
    }
}

/// Makes the mount that `rootfs` is on private: what is mounted there must not reach the host,
/// and pivot_root(2) demands it.
fn isolate_place(rootfs: &Path) -> Result<()> {
    let action = || format!("find the mount of {}", rootfs.display());
    let found = rustix::fs::statx(CWD, rootfs, AtFlags::empty(), StatxFlags::MNT_ID);
    let id = found.doing(action)?.stx_mnt_id.to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").doing(action)?;
    let point = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next() == Some(&id))
            .then(|| fields.nth(3))
            .flatten()
    });
    let point = point.ok_or_else(|| Error::invalid("root.path", "is on no mount"))?;
    set(
        &unescape(point),
        u64::from(MountPropagationFlags::PRIVATE.bits()),
        false,
    )
}

/// Spaces and their like are three octal digits in mountinfo.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escaped, letter) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        plain = plain.replace(escaped, letter);
    }
    plain
}

fn set(path: &str, flag: u64, recursive: bool) -> Result<()> {
    let action = || format!("set the propagation of {path}");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::open(path, flags, Mode::empty()).doing(action)?;
    let wanted = Change {
        propagation: flag,
        ..Change::default()
    };
    change(target.as_fd(), wanted, recursive).doing(action)
}

/// Gives the root filesystem a mount of its own, which pivot_root(2) needs, and opens it.
///
/// # Errors
/// [`Error::Os`] naming the path.
pub fn bind_root(rootfs: &Path) -> Result<Root> {
    let action = || format!("open the rootfs {}", rootfs.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    isolate_place(rootfs)?;
    let tree = rustix::mount::open_tree(CWD, rootfs, flags).doing(action)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::open(rootfs, flags, Mode::empty()).doing(action)?;
    attach(&tree, &target, &rootfs.to_string_lossy())?;
    Ok(Root::new(tree))
}

/// Takes the host's procfs and sysfs away from below: uncovered mounts of them would let the
/// container mount its own without what is masked.
fn hide_kernel_filesystems(root: &Root) -> Result<()> {
    let action = || "take the host's procfs and sysfs away";
    let own = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&root.as_fd())
    );
    let own = std::fs::read_link(own).doing(action)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").doing(action)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).doing(action)?;
    // The last are on top.
    for line in mounts.lines().rev() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let point = unescape(mount.split(' ').nth(4).unwrap_or_default());
        let is_kernels = kind.starts_with("proc ") || kind.starts_with("sysfs ");
        if !is_kernels || Path::new(&point).starts_with(&own) {
            continue;
        }
        if rustix::mount::unmount(point.as_str(), UnmountFlags::DETACH).is_err() {
            // Locked, in a user namespace: covered instead.
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("tmpfs", point.as_str(), "tmpfs", flags, None).doing(action)?;
        }
    }
    Ok(())
}

/// Makes `root` the root and the working directory. With `pivot`, the host's tree is gone
/// afterwards; without (for a rootfs on the initial ramdisk) it is covered.
///
/// # Errors
/// [`Error::Os`].
pub fn enter(root: &Root, pivot: bool) -> Result<()> {
    rustix::process::fchdir(root).doing(|| "enter the rootfs")?;
    if pivot {
        // The old root ends up on top of the new one, from where it is taken away.
        rustix::process::pivot_root(".", ".").doing(|| "pivot_root")?;
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change(".", slave).doing(|| "isolate the old root")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).doing(|| "unmount the old root")?;
    } else {
        hide_kernel_filesystems(root)?;
        rustix::mount::mount_move(".", "/").doing(|| "move the rootfs to /")?;
        rustix::process::chroot(".").doing(|| "chroot")?;
    }
    rustix::process::chdir("/").doing(|| "enter /")
}

/// Opens the root filesystem where it gets no mount of its own.
///
/// # Errors
/// [`Error::Os`] naming the path.
pub fn open_root(rootfs: &Path) -> Result<Root> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(rootfs, flags, Mode::empty())
        .doing(|| format!("open the rootfs {}", rootfs.display()))?;
    Ok(Root::new(root))
}

/// Makes `root` the root directory, in a mount namespace that is not the container's own.
///
/// # Errors
/// [`Error::Os`].
pub fn enter_without_mounts(root: &Root) -> Result<()> {
    rustix::process::fchdir(root).doing(|| "enter the rootfs")?;
    rustix::process::chroot(".").doing(|| "chroot")?;
    rustix::process::chdir("/").doing(|| "enter /")
}

/// Makes `/` read-only.
///
/// # Errors
/// [`Error::Os`].
pub fn make_read_only() -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).doing(|| "open /")?;
    let wanted = Change {
        set: READ_ONLY,
        ..Change::default()
    };
    change(root.as_fd(), wanted, false).doing(|| "make / read-only")
}

/// Sets the propagation that `linux.rootfsPropagation` asks for, inside the container.
///
/// # Errors
/// [`Error::Os`].
pub fn set_propagation(name: &str) -> Result<()> {
    match options::propagation(name) {
        Some((flag, recursive)) => set("/", flag, recursive),
        None if name.is_empty() => Ok(()),
        None => Err(Error::invalid("linux.rootfsPropagation", name)),
    }
}
