//! Mount sources that the host's root has to prepare: those with ids mapped, and all of a
//! container that has a user namespace, whose root may not reach them.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::libc;
use sys::clone::{Forked, flags};
use sys::mount_attributes::{Change, change, map_ids};

use crate::error::{Context, Error, Result};
use crate::rootfs::mounts::{clone_source, dress};
use crate::rootfs::options::{Options, propagation};
use crate::spec::{IdMapping, Linux, Mount, NamespaceKind};

/// Detached mounts, one place for each of `mounts`.
pub type Sources = Vec<Option<OwnedFd>>;

/// Prepares the sources that need it, in the namespaces of the caller.
///
/// # Errors
/// [`Error`] naming the destination.
pub fn prepare(mounts: &[Mount], linux: &Linux, bundle: &Path) -> Result<Sources> {
    // An ordinary user has no more rights out here than in its own user namespace.
    let inside = linux.namespace(NamespaceKind::User).is_some();
    let has_user_namespace = inside && rustix::process::geteuid().is_root();
    let mut sources = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let options = Options::parse(&mount.destination, &mount.options)?;
        let mapped = options.id_map.is_some() || !mount.uid_mappings.is_empty();
        let bind = options.is_bind(&mount.kind) && !options.remount;
        if mapped && !bind {
            return Err(Error::unsupported(
                format!("mounts.uidMappings of {}", mount.destination),
                "only bind mounts can have ids mapped",
            ));
        }
        sources.push(if bind && (mapped || has_user_namespace) {
            Some(source(mount, &options, linux, bundle, mapped)?)
        } else {
            None
        });
    }
    Ok(sources)
}

fn source(
    mount: &Mount,
    options: &Options,
    linux: &Linux,
    bundle: &Path,
    mapped: bool,
) -> Result<OwnedFd> {
    let tree = clone_source(mount, options, bundle)?;
    let action = || format!("prepare the mount on {}", mount.destination);
    // What the container's whole tree gets, which this one is not part of.
    let inherited = match propagation(&linux.rootfs_propagation) {
        Some((flag, _)) if flag == libc::MS_SHARED => 0,
        Some((flag, _)) if flag != libc::MS_SLAVE => libc::MS_PRIVATE,
        _ => libc::MS_SLAVE,
    };
    let wanted = Change {
        propagation: inherited,
        ..Change::default()
    };
    if inherited != 0 {
        change(tree.as_fd(), wanted, true).doing(action)?;
    }
    if mapped {
        let namespace = namespace_for(mount, linux)?;
        let recursive = options.id_map == Some(true);
        map_ids(tree.as_fd(), namespace.as_fd(), recursive)
            .doing(|| format!("map the ids of the mount on {}", mount.destination))?;
    }
    dress(tree, options.own, options, &mount.destination)
}

/// A user namespace with the maps of `mount`, or else of the container.
fn namespace_for(mount: &Mount, linux: &Linux) -> Result<OwnedFd> {
    let (uids, gids) = if mount.uid_mappings.is_empty() {
        if let Some(joined) = linux.namespace(NamespaceKind::User)
            && !joined.path.is_empty()
        {
            let file = File::open(&joined.path).doing(|| format!("open {}", joined.path))?;
            return Ok(file.into());
        }
        (&linux.uid_mappings, &linux.gid_mappings)
    } else {
        (&mount.uid_mappings, &mount.gid_mappings)
    };
    if uids.is_empty() || gids.is_empty() {
        return Err(Error::invalid(
            format!("mounts.uidMappings of {}", mount.destination),
            "neither the mount nor the container has mappings",
        ));
    }
    make_namespace(uids, gids).doing(|| format!("make the id map of {}", mount.destination))
}

/// A process holds the namespace for as long as it takes to open it.
fn make_namespace(uids: &[IdMapping], gids: &[IdMapping]) -> std::io::Result<OwnedFd> {
    let (reader, writer) = std::io::pipe()?;
    match sys::clone::fork(flags::NEWUSER, None)? {
        Forked::Child => {
            drop(writer);
            let _ = rustix::io::read(&reader, &mut [0; 1][..]);
            sys::clone::exit_now(0)
        }
        Forked::Parent(child) => {
            let open = || -> std::io::Result<OwnedFd> {
                std::fs::write(format!("/proc/{}/uid_map", child.pid), map_lines(uids))?;
                std::fs::write(format!("/proc/{}/gid_map", child.pid), map_lines(gids))?;
                Ok(File::open(format!("/proc/{}/ns/user", child.pid))?.into())
            };
            let opened = open();
            drop((reader, writer));
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None)?;
            opened
        }
    }
}

/// The lines of `/proc/PID/uid_map`.
#[must_use]
pub fn map_lines(mappings: &[IdMapping]) -> String {
    let line = |map: &IdMapping| format!("{} {} {}\n", map.container_id, map.host_id, map.size);
    mappings.iter().map(line).collect()
}
