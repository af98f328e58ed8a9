//! The specification's mounts, each made detached, dressed with its attributes and only then
//! moved onto a descriptor of its destination.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
};
use sys::mount_attributes::{Change, READ_ONLY, change, changed};

use crate::cgroup::Cgroup;
use crate::defence::Defence;
use crate::error::{Context, Error, Result};
use crate::rootfs::options::Options;
use crate::rootfs::{Root, cgroup, copy_up};
use crate::spec::Mount;

/// A mount that becomes read-only once everything inside it has been made.
pub struct Later {
    pub mount: OwnedFd,
    pub destination: String,
}

/// What the mounts of one container have in common.
pub struct Place<'a> {
    /// Where relative sources begin.
    pub bundle: &'a Path,
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
    /// `linux.mountLabel`.
    pub label: &'a str,
}

/// Files of procfs that something else may be mounted on: those that lxcfs gives its own face.
const PROC_EXCEPTIONS: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Makes one mount.
///
/// # Errors
/// [`Error::Os`], [`Error::Unsupported`], [`Error::Invalid`], naming the destination.
pub fn mount(
    root: &Root,
    mount: &Mount,
    source: Option<OwnedFd>,
    place: &Place<'_>,
    later: &mut Vec<Later>,
) -> Result<()> {
    let mut options = Options::parse(&mount.destination, &mount.options)?;
    if options.remount {
        return remount(root, mount, &options);
    }
    if options.is_bind(&mount.kind) {
        return bind(root, mount, &options, source, place.bundle);
    }
    if options.copy_up && mount.kind != "tmpfs" {
        return Err(Error::invalid(
            format!("mounts option \"tmpcopyup\" of {}", mount.destination),
            "only a tmpfs begins with a copy",
        ));
    }
    if !place.label.is_empty() && !matches!(mount.kind.as_str(), "proc" | "sysfs" | "cgroup") {
        options.data.push(format!("context={}", place.label));
    }
    match mount.kind.as_str() {
        "cgroup" => cgroup::mount(root, mount, &options, place.cgroup, later),
        "" => Err(Error::invalid(
            format!("mounts type of {}", mount.destination),
            "empty",
        )),
        _ => new_filesystem(root, mount, &options, later),
    }
}

fn new_filesystem(
    root: &Root,
    mount: &Mount,
    options: &Options,
    later: &mut Vec<Later>,
) -> Result<()> {
    let destination = directory_for(root, &mount.destination, &mount.kind)?;
    let mut own = options.own;
    // Mount points inside must still be made.
    let delayed = mount.kind == "tmpfs" && own.set & READ_ONLY != 0;
    if delayed {
        own.set &= !READ_ONLY;
    }
    let data = options.data.iter().map(String::as_str);
    let made = filesystem(&mount.kind, &mount.source, data)
        .doing(|| format!("mount {} on {}", mount.kind, mount.destination))?;
    if options.copy_up {
        copy_up::copy(destination.as_fd(), made.as_fd())
            .doing(|| format!("copy the image's {} into its tmpfs", mount.destination))?;
    }
    let made = dress(made, own, options, &mount.destination)?;
    attach(&made, &destination, &mount.destination)?;
    if delayed {
        later.push(Later {
            mount: made,
            destination: mount.destination.clone(),
        });
    }
    Ok(())
}

/// A new filesystem, detached. Its attributes are not set yet.
pub fn filesystem<'a>(
    kind: &str,
    source: &str,
    data: impl Iterator<Item = &'a str>,
) -> std::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let source = (!source.is_empty()).then_some(("source", source));
    let create = || -> std::result::Result<(), rustix::io::Errno> {
        if let Some((key, value)) = source {
            rustix::mount::fsconfig_set_string(&context, key, value)?;
        }
        configure(&context, data)?;
        rustix::mount::fsconfig_create(&context)
    };
    create().map_err(|error| explain(&context, error))?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(rustix::mount::fsmount(
        &context,
        flags,
        MountAttrFlags::empty(),
    )?)
}

fn configure<'a>(
    context: &OwnedFd,
    data: impl Iterator<Item = &'a str>,
) -> std::result::Result<(), rustix::io::Errno> {
    for option in data {
        match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(context, key, value)?,
            None => rustix::mount::fsconfig_set_flag(context, option)?,
        }
    }
    Ok(())
}

/// The kernel's own words, where the filesystem left some in the context.
fn explain(context: &OwnedFd, error: rustix::io::Errno) -> std::io::Error {
    let mut message = [0; 512];
    match rustix::io::read(context, &mut message[..]) {
        Ok(length) if length > 2 => {
            let text = String::from_utf8_lossy(&message[2..length])
                .trim_end()
                .to_owned();
            std::io::Error::other(format!("{error} ({text})"))
        }
        _ => error.into(),
    }
}

/// Sets the attributes that `options` ask for, with `own` for the mount itself.
///
/// # Errors
/// [`Error::Os`] naming the destination.
pub fn dress(made: OwnedFd, own: Change, options: &Options, destination: &str) -> Result<OwnedFd> {
    let action = || format!("set the options of {destination}");
    let mut made = changed(made, own, false).doing(action)?;
    made = changed(made, options.below, true).doing(action)?;
    for &(propagation, recursive) in &options.propagation {
        let wanted = Change {
            propagation,
            ..Change::default()
        };
        change(made.as_fd(), wanted, recursive).doing(action)?;
    }
    Ok(made)
}

/// Moves a detached mount onto what `target` refers to.
///
/// # Errors
/// [`Error::Os`] naming the destination.
pub fn attach(mount: &OwnedFd, target: &OwnedFd, destination: &str) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
        .doing(|| format!("mount on {destination}"))
}

/// A detached copy of the mount's source.
///
/// # Errors
/// [`Error::Os`] naming source and destination.
pub fn clone_source(mount: &Mount, options: &Options, bundle: &Path) -> Result<OwnedFd> {
    let source = bundle.join(&mount.source);
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if options.bind == Some(true) {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(CWD, &source, flags)
        .doing(|| format!("bind {} on {}", source.display(), mount.destination))
}

fn bind(
    root: &Root,
    mount: &Mount,
    options: &Options,
    source: Option<OwnedFd>,
    bundle: &Path,
) -> Result<()> {
    if let Some(option) = options.data.first() {
        let field = format!("mounts option {option:?} of {}", mount.destination);
        return Err(Error::unsupported(
            field,
            "a bind mount has no filesystem options",
        ));
    }
    let dressed = source.is_some();
    let made = match source {
        Some(source) => source,
        None => clone_source(mount, options, bundle)?,
    };
    let kind = rustix::fs::fstat(&made).doing(|| format!("stat {}", mount.source))?;
    let destination = if FileType::from_raw_mode(kind.st_mode) == FileType::Directory {
        directory_for(root, &mount.destination, "bind")?
    } else {
        root.make_file(&mount.destination)?
    };
    refuse_proc(&destination, &mount.destination)?;
    let made = if dressed {
        made
    } else {
        dress(made, options.own, options, &mount.destination)?
    };
    attach(&made, &destination, &mount.destination)
}

/// Changes what is mounted on the destination: its attributes and the filesystem's options.
fn remount(root: &Root, mount: &Mount, options: &Options) -> Result<()> {
    let action = || format!("remount {}", mount.destination);
    let target = root.open(&mount.destination, OFlags::PATH).doing(action)?;
    if !options.data.is_empty() {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
        let context = rustix::mount::fspick(&target, "", flags).doing(action)?;
        configure(&context, options.data.iter().map(String::as_str))
            .and_then(|()| rustix::mount::fsconfig_reconfigure(&context))
            .map_err(|error| explain(&context, error))
            .doing(action)?;
    }
    dress(target, options.own, options, &mount.destination).map(drop)
}

/// The directory to mount on, made where missing. procfs and sysfs go onto a directory of the
/// image itself: were it a symlink, what is hidden and protected later would be elsewhere.
fn directory_for(root: &Root, destination: &str, kind: &str) -> Result<OwnedFd> {
    if matches!(kind, "proc" | "sysfs") && Defence::OrdinaryDirectory.is_on() {
        let directory = ordinary_directory(root, destination)?;
        if kind == "sysfs" {
            refuse_proc(&directory, destination)?;
        }
        return Ok(directory);
    }
    let directory = root.make_directory(destination)?;
    refuse_proc(&directory, destination)?;
    Ok(directory)
}

/// What is looked at is what is mounted on: no link can take its place in between.
fn ordinary_directory(root: &Root, destination: &str) -> Result<OwnedFd> {
    let (parent, name) = root.parent_of(Path::new(destination))?;
    match rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error).doing(|| format!("make directory {destination}")),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, &name, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            let field = format!("mounts destination {destination}");
            Err(Error::invalid(
                field,
                "must be mounted on ordinary directory",
            ))
        }
        other => other.doing(|| format!("open {destination}")),
    }
}

/// Nothing is mounted inside procfs except onto a few files.
fn refuse_proc(target: &OwnedFd, destination: &str) -> Result<()> {
    let on = rustix::fs::fstatfs(target).doing(|| format!("statfs {destination}"))?;
    let is_proc = on.f_type == rustix::fs::PROC_SUPER_MAGIC;
    if is_proc && !PROC_EXCEPTIONS.contains(&destination) {
        let field = format!("mounts destination {destination}");
        return Err(Error::invalid(field, "is inside procfs"));
    }
    Ok(())
}

/// Makes read-only what had to stay writable while it was filled.
///
/// # Errors
/// [`Error::Os`] naming the destination.
pub fn finish(later: Vec<Later>) -> Result<()> {
    for Later { mount, destination } in later {
        let read_only = Change {
            set: READ_ONLY,
            ..Change::default()
        };
        change(mount.as_fd(), read_only, false)
            .doing(|| format!("make {destination} read-only"))?;
    }
    Ok(())
}

/// Opens `path` in the root, or tells that it is not there.
///
/// # Errors
/// [`Error::Os`] naming the path.
pub fn open_existing(root: &Root, path: &str) -> Result<Option<OwnedFd>> {
    match root.open(path, OFlags::PATH) {
        Ok(found) => Ok(Some(found)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).doing(|| format!("open {path} in the rootfs")),
    }
}
