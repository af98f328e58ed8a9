//! Device nodes and the links under `/dev` that every container has.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use crate::error::{Context, Error, Result};
use crate::rootfs::Root;
use crate::rootfs::mounts::attach;
use crate::spec::{Device, NamespaceKind, Spec};

/// (name, major, minor): "Default Devices" of the specification.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// (name, target).
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Whether `/dev` is the container's own. Where the host's is bound there, it is left alone.
pub fn wanted(spec: &Spec) -> bool {
    !spec.mounts.iter().any(|mount| {
        let is_dev = mount.destination.trim_end_matches('/') == "/dev";
        let is_bind = mount.kind == "bind"
            || mount
                .options
                .iter()
                .any(|option| option == "bind" || option == "rbind");
        is_dev && is_bind
    })
}

/// Makes nodes and links.
///
/// # Errors
/// [`Error`] naming the path.
pub fn make(root: &Root, spec: &Spec) -> Result<()> {
    let linux = spec.linux.as_ref();
    // mknod of devices is not allowed inside a user namespace: the host's nodes are bound.
    let bound = linux.is_some_and(|linux| linux.namespace(NamespaceKind::User).is_some());
    let dev = root.make_directory("/dev")?;
    if spec
        .process
        .as_ref()
        .is_some_and(|process| process.terminal)
    {
        // A place for the terminal, before the mount may become read-only.
        root.make_file("/dev/console")?;
    }
    for &(name, major, minor) in DEFAULT {
        let device = Device {
            path: format!("/dev/{name}"),
            kind: "c".to_owned(),
            major,
            minor,
            file_mode: Some(0o666),
            uid: 0,
            gid: 0,
        };
        make_node(&dev, Path::new(name), &device, bound)?;
    }
    for device in linux.map_or(&[][..], |linux| &linux.devices) {
        let (parent, name) = root.parent_of(Path::new(&device.path))?;
        make_node(&parent, &name, device, bound)?;
    }
    for &(name, target) in LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).doing(|| format!("link /dev/{name}")),
        }
    }
    Ok(())
}

fn kind_of(device: &Device) -> Result<FileType> {
    match device.kind.as_str() {
        "c" | "u" => Ok(FileType::CharacterDevice),
        "b" => Ok(FileType::BlockDevice),
        "p" => Ok(FileType::Fifo),
        other => Err(Error::invalid(
            format!("linux.devices type of {}", device.path),
            other,
        )),
    }
}

fn make_node(parent: &OwnedFd, name: &Path, device: &Device, bound: bool) -> Result<()> {
    let action = || format!("make device {}", device.path);
    let kind = kind_of(device)?;
    if bound {
        return bind_node(parent, name, device);
    }
    let number = rustix::fs::makedev(device.major, device.minor);
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match rustix::fs::mknodat(parent, name, kind, mode, number) {
        Ok(()) => {}
        Err(Errno::EXIST) => return check_same(parent, name, kind, number, device),
        Err(error) => return Err(error).doing(action),
    }
    // The umask has cut the mode; the node is new and ours, in a directory that we hold.
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).doing(action)?;
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags).doing(action)?;
    }
    Ok(())
}

/// What is there already must be the device that is asked for.
fn check_same(
    parent: &OwnedFd,
    name: &Path,
    kind: FileType,
    number: u64,
    device: &Device,
) -> Result<()> {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .doing(|| format!("stat {}", device.path))?;
    let same_kind = FileType::from_raw_mode(found.st_mode) == kind;
    if same_kind && (kind == FileType::Fifo || found.st_rdev == number) {
        return Ok(());
    }
    let reason = "the rootfs has something else in its place";
    Err(Error::invalid(format!("device {}", device.path), reason))
}

fn bind_node(parent: &OwnedFd, name: &Path, device: &Device) -> Result<()> {
    use rustix::fs::OFlags;
    let action = || format!("bind device {}", device.path);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, &device.path, flags).doing(action)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).doing(action)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(parent, name, flags, Mode::empty()).doing(action)?;
    attach(&tree, &target, &device.path)
}
