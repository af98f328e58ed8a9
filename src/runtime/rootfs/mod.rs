//! The container's root filesystem: mounts, device nodes, hidden and read-only paths. Everything
//! is made through descriptors resolved inside the root while the host's tree is still there.

mod cgroup;
mod copy_up;
mod devices;
mod hide;
mod idmap;
mod mounts;
mod options;
mod pivot;
mod resolve;

pub use idmap::{Sources, map_lines, prepare as prepare_sources};
pub use options::names as option_names;
pub use pivot::{enter, enter_without_mounts, make_read_only, set_propagation};
pub use resolve::Root;

use std::path::Path;

use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::spec::Spec;

/// Makes all that the container sees, except the change of the root itself.
///
/// # Errors
/// [`crate::error::Error`] naming the path inside the container.
pub fn prepare(
    spec: &Spec,
    bundle: &Path,
    rootfs: &Path,
    cgroup: &Cgroup,
    sources: Sources,
) -> Result<Root> {
    let linux = spec.linux.as_ref();
    let propagation = linux.map_or("", |linux| linux.rootfs_propagation.as_str());
    pivot::detach_from_host(propagation)?;
    let root = pivot::bind_root(rootfs)?;
    let place = mounts::Place {
        bundle,
        cgroup,
        label: linux.map_or("", |linux| linux.mount_label.as_str()),
    };
    let mut later = Vec::new();
    let sources = sources.into_iter().chain(std::iter::repeat_with(|| None));
    for (mount, source) in spec.mounts.iter().zip(sources) {
        mounts::mount(&root, mount, source, &place, &mut later)?;
    }
    if devices::wanted(spec) {
        devices::make(&root, spec)?;
    }
    if let Some(process) = &spec.process {
        ensure_working_directory(&root, &process.cwd)?;
    }
    mounts::finish(later)?;
    Ok(root)
}

/// The root of a container without mounts of its own: only files are made, in `rootfs`.
///
/// # Errors
/// [`crate::error::Error`] naming the path inside the container.
pub fn prepare_without_mounts(spec: &Spec, rootfs: &Path) -> Result<Root> {
    let root = pivot::open_root(rootfs)?;
    if let Some(process) = &spec.process {
        ensure_working_directory(&root, &process.cwd)?;
    }
    Ok(root)
}

/// Hides and protects paths; the last thing before the root is changed.
///
/// # Errors
/// [`crate::error::Error`] naming the path inside the container.
pub fn protect(root: &Root, spec: &Spec) -> Result<()> {
    if let Some(linux) = &spec.linux {
        hide::read_only(root, &linux.readonly_paths)?;
        hide::mask(root, &linux.masked_paths)?;
    }
    Ok(())
}

/// The working directory is made where the image lacks it, as runc does.
fn ensure_working_directory(root: &Root, path: &str) -> Result<()> {
    if root.exists(path) {
        return Ok(());
    }
    root.make_directory(path).map(drop)
}
