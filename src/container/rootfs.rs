//! Access to the tree of an image, whose symbolic links are hostile.
//!
//! Every path is resolved by the kernel with `RESOLVE_IN_ROOT` (openat2(2)): absolute
//! links and `..` stay inside the tree.

use super::error::ContainerError;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

/// Permissions of directories that an image names and does not have.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// Times a resolution that raced with a rename (EAGAIN) is tried again.
const RACE_RETRIES: u32 = 16;

/// An opened root directory of a container or image.
#[derive(Debug)]
pub struct Rootfs {
    directory: OwnedFd,
    path: PathBuf,
}

impl Rootfs {
    /// Opens the tree at `path` of the host.
    pub fn open(path: &Path) -> Result<Rootfs, ContainerError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| ContainerError::file("open", path)(errno.into()))?;
        Ok(Rootfs {
            directory,
            path: path.to_path_buf(),
        })
    }

    /// The regular file at `path`, at most `limit` bytes long; none where nothing is there.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ContainerError> {
        let failed = |source| ContainerError::File {
            action: "read",
            path: self.path.join(path.trim_start_matches('/')),
            source,
        };
        // O_NONBLOCK: a fifo in this place must not stop us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = match self.resolve(Path::new(path), flags) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("not a regular file")));
        }
        if metadata.len() > limit {
            return Err(failed(io::Error::other(format!(
                "larger than {limit} bytes"
            ))));
        }
        let mut content = Vec::new();
        file.take(limit).read_to_end(&mut content).map_err(failed)?;
        Ok(Some(content))
    }

    /// Makes sure that `path` is a directory, creating what is missing (0755, root's).
    pub fn create_directories(&self, path: &Path) -> Result<(), ContainerError> {
        let normal = normalise(path);
        let failed = |errno: Errno| ContainerError::File {
            action: "create directory",
            path: normal.clone(),
            source: errno.into(),
        };
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut parent = self.resolve(Path::new("/"), directory).map_err(failed)?;
        let mut reached = PathBuf::from("/");
        for name in normal.components().filter_map(named) {
            reached.push(name);
            parent = match self.resolve(&reached, directory) {
                Ok(next) => next,
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&parent, name, DIRECTORY_MODE).map_err(failed)?;
                    self.resolve(&reached, directory).map_err(failed)?
                }
                Err(errno) => return Err(failed(errno)),
            };
        }
        Ok(())
    }

    /// Where the directory `path` of the tree really lies on the host.
    pub fn host_path(&self, path: &Path) -> Result<PathBuf, ContainerError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = self
            .resolve(path, flags)
            .map_err(|errno| ContainerError::file("open", path)(errno.into()))?;
        let link = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        std::fs::read_link(&link).map_err(ContainerError::file("resolve", path))
    }

    /// openat2(2) below the root.
    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < RACE_RETRIES => tries += 1,
                result => return result,
            }
        }
    }
}

/// `path` from the root on, without `.` and with `..` taken back, by its text alone.
pub fn normalise(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            _ => {}
        }
    }
    normal
}

fn named(component: Component<'_>) -> Option<&OsStr> {
    match component {
        Component::Normal(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let tree = tempfile::tempdir().unwrap();
        symlink(outside.path(), tree.path().join("absolute")).unwrap();
        symlink("../../../../../../..", tree.path().join("up")).unwrap();
        let rootfs = Rootfs::open(tree.path()).unwrap();
        assert_eq!(rootfs.read("/absolute/secret", 10).unwrap(), None);
        let through = format!("up{}/secret", outside.path().display());
        assert_eq!(rootfs.read(&through, 10).unwrap(), None);
        assert!(
            rootfs
                .create_directories(Path::new("/absolute/new"))
                .is_err()
        );
        assert!(!outside.path().join("new").exists());
        rootfs
            .create_directories(Path::new("/up/made/../here"))
            .unwrap();
        assert!(tree.path().join("here").is_dir());
        assert!(!outside.path().join("here").exists());
    }

    #[test]
    fn limits_and_types() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("file"), "12345").unwrap();
        let rootfs = Rootfs::open(tree.path()).unwrap();
        assert_eq!(rootfs.read("/file", 5).unwrap().unwrap(), b"12345");
        assert!(rootfs.read("/file", 4).is_err());
        assert!(rootfs.read("/", 4).is_err());
        assert_eq!(rootfs.read("/file/below", 4).unwrap(), None);
        assert!(rootfs.create_directories(Path::new("/file/below")).is_err());
    }

    #[test]
    fn created_directories_are_open_to_all_readers() {
        let tree = tempfile::tempdir().unwrap();
        let rootfs = Rootfs::open(tree.path()).unwrap();
        rootfs.create_directories(Path::new("/a/b")).unwrap();
        let mode = std::fs::metadata(tree.path().join("a/b"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(
            rootfs.host_path(Path::new("/a/b")).unwrap(),
            tree.path().join("a/b")
        );
    }
}
