//! The container's writable root: an overlay of the image's tree and a directory of its own.

use super::error::ContainerError;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::{CString, OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mounts found one on another at the same place are taken off up to this number.
const MAX_STACKED: u32 = 16;

/// Where the parts of one overlay lie.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The image's tree, read-only.
    pub lower: PathBuf,
    /// What the container changes.
    pub upper: PathBuf,
    /// Scratch directory of overlayfs, on the file system of `upper`.
    pub work: PathBuf,
    /// Where the union is seen.
    pub target: PathBuf,
}

impl Overlay {
    /// The overlay of the container in `directory` over `lower`.
    pub fn in_directory(directory: &Path, lower: &Path) -> Overlay {
        Overlay {
            lower: lower.to_path_buf(),
            upper: directory.join("upper"),
            work: directory.join("work"),
            target: directory.join("rootfs"),
        }
    }

    /// Makes the directories. Needs no image but for the root's mode and owner, which the
    /// union takes from the upper.
    fn make_directories(&self) -> Result<(), ContainerError> {
        for path in [&self.upper, &self.work, &self.target] {
            let made = DirBuilder::new().mode(0o700).create(path);
            made.map_err(ContainerError::file("create", path))?;
        }
        let failed = ContainerError::file("read", &self.lower);
        let metadata = std::fs::metadata(&self.lower).map_err(failed)?;
        std::os::unix::fs::chown(&self.upper, Some(metadata.uid()), Some(metadata.gid()))
            .map_err(ContainerError::file("change owner of", &self.upper))?;
        let permissions = PermissionsExt::from_mode(metadata.mode() & 0o7777);
        std::fs::set_permissions(&self.upper, permissions)
            .map_err(ContainerError::file("set permissions of", &self.upper))
    }

    /// Makes the directories and mounts the union. nodev and nosuid are left to what the
    /// image holds: devices are ruled by the container's cgroup, set-user-id programs
    /// belong to it.
    pub fn mount(&self) -> Result<(), ContainerError> {
        self.make_directories()?;
        let mut data = OsString::from("lowerdir=");
        data.push(escape(self.lower.as_os_str()));
        data.push(",upperdir=");
        data.push(escape(self.upper.as_os_str()));
        data.push(",workdir=");
        data.push(escape(self.work.as_os_str()));
        let data = CString::new(data.into_vec())
            .map_err(|error| ContainerError::file("mount", &self.target)(error.into()))?;
        rustix::mount::mount(
            "overlay",
            &self.target,
            "overlay",
            MountFlags::empty(),
            Some(data.as_c_str()),
        )
        .map_err(|errno| ContainerError::File {
            action: "mount the overlay of the container at",
            path: self.target.clone(),
            source: explain(errno),
        })
    }
}

/// overlayfs says EINVAL for an upper it cannot use, the commonest cause by far.
fn explain(errno: Errno) -> std::io::Error {
    match errno {
        Errno::INVAL => std::io::Error::other(
            "the file system of --root cannot hold an overlay's upper directory (is it an \
             overlay itself, or FUSE?); choose a --root on ext4, xfs, btrfs or tmpfs",
        ),
        _ => errno.into(),
    }
}

/// overlayfs separates its options by commas and lowers by colons; a backslash before one
/// of them, or before itself, makes it part of a name.
fn escape(path: &OsStr) -> OsString {
    let mut escaped = Vec::with_capacity(path.len());
    for byte in path.as_bytes() {
        if matches!(byte, b',' | b':' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    OsString::from_vec(escaped)
}

/// Takes off whatever is mounted at `target`; nothing there is no error. A mount that is
/// still in use goes from view at once and for good when its last user leaves it.
pub fn unmount(target: &Path) -> Result<(), ContainerError> {
    for _ in 0..MAX_STACKED {
        let flags = UnmountFlags::NOFOLLOW;
        let plain = rustix::mount::unmount(target, flags);
        let result = match plain {
            Err(Errno::BUSY) => rustix::mount::unmount(target, flags | UnmountFlags::DETACH),
            result => result,
        };
        match result {
            Ok(()) => {}
            // Not a mount point, or not there at all.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(ContainerError::file("unmount", target)(errno.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unmounts also when an assertion fails.
    struct Mounted(PathBuf);

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = unmount(&self.0);
        }
    }

    #[test]
    fn the_union_is_writable_and_the_lower_stays() {
        for name in ["plain", "with,comma:colon\\backslash"] {
            let root = tempfile::tempdir().unwrap();
            let directory = root.path().join(name);
            let lower = directory.join("lower");
            std::fs::create_dir_all(&lower).unwrap();
            std::fs::set_permissions(&lower, PermissionsExt::from_mode(0o1751)).unwrap();
            std::os::unix::fs::chown(&lower, Some(12), Some(34)).unwrap();
            std::fs::write(lower.join("file"), "image").unwrap();
            let overlay = Overlay::in_directory(&directory, &lower);
            overlay.mount().unwrap();
            let guard = Mounted(overlay.target.clone());
            assert_eq!(
                std::fs::read(overlay.target.join("file")).unwrap(),
                b"image"
            );
            std::fs::write(overlay.target.join("file"), "changed").unwrap();
            assert_eq!(std::fs::read(lower.join("file")).unwrap(), b"image");
            let metadata = std::fs::metadata(&overlay.target).unwrap();
            assert_eq!(
                (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
                (0o1751, 12, 34)
            );
            unmount(&overlay.target).unwrap();
            assert!(!overlay.target.join("file").exists());
            drop(guard);
        }
    }

    #[test]
    fn nothing_mounted_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        unmount(root.path()).unwrap();
        unmount(&root.path().join("missing")).unwrap();
    }
}
