//! The runtime's file seen through an overlayfs without an upper layer: its pages are those of the
//! file itself, so nothing is copied, but no way leads from it to a file that can be written to.
//! The filesystem cannot be made writable, and its mount is in no namespace.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Without an upper layer overlayfs wants two lower ones. Any directory does that is neither above
/// nor below the file's own: the first layer that has a name is the one that counts.
const SECOND_LAYER: &str = "/dev";

/// The file at `path`, which has to be `file`, in an overlay of its own.
///
/// # Errors
/// Where the path leads elsewhere, and what the kernel says: no right to mount, no overlayfs, too
/// many overlays above each other.
pub fn view_of(file: &File, path: &Path) -> std::io::Result<File> {
    let elsewhere = || std::io::Error::from(Errno::STALE);
    let directory = path.parent().ok_or_else(elsewhere)?;
    let name = path.file_name().ok_or_else(elsewhere)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, directory, flags, Mode::empty())?;
    let wanted = fstat(file)?;
    let found = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino) {
        return Err(elsewhere());
    }
    let second = openat(CWD, SECOND_LAYER, flags, Mode::empty())?;
    let mount = overlay(&directory, &second)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let view = openat(&mount, name, flags, Mode::empty())?;
    let seen = fstat(&view)?;
    // It may have been replaced meanwhile.
    if (seen.st_mode, seen.st_size) != (wanted.st_mode, wanted.st_size) {
        return Err(elsewhere());
    }
    Ok(File::from(view))
}

/// A detached, read-only overlay.
fn overlay(first: &OwnedFd, second: &OwnedFd) -> std::result::Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "brisk-runtime")?;
    let layers = [first, second].map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd()));
    rustix::mount::fsconfig_set_string(&context, "lowerdir", layers.join(":"))?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_has_the_files_bytes_and_cannot_be_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, "bytes").unwrap();
        let file = File::open(&path).unwrap();
        let view = match view_of(&file, &path) {
            Ok(view) => view,
            Err(error) => {
                // No overlayfs here, or too many: then the copy in memory is taken.
                eprintln!("no view: {error}");
                return;
            }
        };
        let way = format!("/proc/self/fd/{}", view.as_raw_fd());
        assert_eq!(std::fs::read(&way).unwrap(), b"bytes");
        let refused = File::options().write(true).open(&way).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        assert!(File::options().append(true).open(&path).is_ok());
    }

    #[test]
    fn a_path_that_leads_to_another_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, "bytes").unwrap();
        let file = File::open(&path).unwrap();
        std::fs::rename(&path, directory.path().join("old")).unwrap();
        std::fs::write(&path, "other").unwrap();
        assert!(view_of(&file, &path).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(view_of(&file, &path).is_err());
    }
}
