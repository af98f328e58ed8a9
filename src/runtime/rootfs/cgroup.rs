//! Mounts of type `cgroup`: the container sees its own directories only. Binding those gives the
//! same picture with and without a cgroup namespace, and in both versions.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;
use sys::mount_attributes::{READ_ONLY, changed};

use crate::cgroup::Cgroup;
use crate::error::{Context, Result};
use crate::rootfs::Root;
use crate::rootfs::mounts::{Later, attach, filesystem};
use crate::rootfs::options::Options;
use crate::spec::Mount;

/// Makes the mount.
///
/// # Errors
/// [`crate::error::Error::Os`] naming the destination.
pub fn mount(
    root: &Root,
    mount: &Mount,
    options: &Options,
    cgroup: &Cgroup,
    later: &mut Vec<Later>,
) -> Result<()> {
    let destination = root.make_directory(&mount.destination)?;
    if cgroup.is_unified() {
        let Some(path) = &cgroup.unified else {
            return Ok(());
        };
        let own = bound(path, options)?;
        return attach(&own, &destination, &mount.destination);
    }
    let mut own = options.own;
    let delayed = own.set & READ_ONLY != 0;
    own.set &= !READ_ONLY;
    let action = || format!("mount tmpfs on {}", mount.destination);
    let tmpfs = filesystem("tmpfs", "tmpfs", ["mode=755"].into_iter()).doing(action)?;
    let tmpfs = changed(tmpfs, own, false).doing(action)?;
    attach(&tmpfs, &destination, &mount.destination)?;
    for hierarchy in &cgroup.hierarchies {
        let Some(name) = hierarchy.mount.file_name() else {
            continue;
        };
        let path = Path::new(&mount.destination).join(name);
        let target = root.make_directory(&path)?;
        attach(
            &bound(&hierarchy.path, options)?,
            &target,
            &path.to_string_lossy(),
        )?;
        link_controllers(&tmpfs, &hierarchy.controllers, name)?;
    }
    if delayed {
        later.push(Later {
            mount: tmpfs,
            destination: mount.destination.clone(),
        });
    }
    Ok(())
}

fn bound(path: &Path, options: &Options) -> Result<OwnedFd> {
    let action = || format!("bind {}", path.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, path, flags).doing(action)?;
    changed(tree, options.own, false).doing(action)
}

/// A hierarchy of several controllers (`cpu,cpuacct`) is found under each one's name.
fn link_controllers(tmpfs: &OwnedFd, controllers: &[String], name: &std::ffi::OsStr) -> Result<()> {
    for controller in controllers.iter().filter(|_| controllers.len() > 1) {
        if controller.contains('=') || name == controller.as_str() {
            continue;
        }
        match rustix::fs::symlinkat(name, tmpfs, controller.as_str()) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).doing(|| format!("link cgroup {controller}")),
        }
    }
    Ok(())
}
