//! Paths inside a root that may be hostile: symlinks end at the root, and what is made on the way
//! is made through descriptors.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::defence::Defence;
use crate::error::{Context, Error, Result};

/// Symlinks followed while making one path: the kernel's own limit.
const SYMLINK_LIMIT: u32 = 40;

/// Attempts of one openat2(2): `EAGAIN` means that a rename elsewhere kept it from proving that
/// the path stays inside.
const RACE_LIMIT: u32 = 128;

/// A root directory.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

/// A path as a sequence of names: no `.`, and `..` taken back lexically, as the runtimes before
/// this one do.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

impl Root {
    /// A root whose directory is open.
    #[must_use]
    pub fn new(directory: OwnedFd) -> Self {
        Self { directory }
    }

    /// Opens `path` with symlinks kept inside.
    ///
    /// # Errors
    /// What openat2(2) reports.
    pub fn open(
        &self,
        path: impl AsRef<Path>,
        flags: OFlags,
    ) -> std::result::Result<OwnedFd, Errno> {
        let path = clean(path.as_ref());
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &path
        };
        let resolve = if Defence::ResolveInside.is_on() {
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
        } else {
            ResolveFlags::empty()
        };
        for _ in 0..RACE_LIMIT {
            let opened = rustix::fs::openat2(
                &self.directory,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            );
            match opened {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Whether `path` leads to something.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.open(path, OFlags::PATH).is_ok()
    }

    /// Opens the directory `path`, making what is missing of it.
    ///
    /// # Errors
    /// [`Error::Os`] naming the path.
    pub fn make_directory(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let path = path.as_ref();
        if !Defence::MakeInside.is_on() {
            // The error shows in what follows.
            let _ = std::fs::create_dir_all(self.by_name(path));
        }
        self.make(clean(path))
            .doing(|| format!("make directory {} in the rootfs", path.display()))
    }

    fn make(&self, mut path: PathBuf) -> std::result::Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        for _ in 0..SYMLINK_LIMIT {
            match self.open(&path, flags) {
                Err(Errno::NOENT) => {}
                other => return other,
            }
            let (existing, missing) = self.split(&path)?;
            match make_below(existing, &missing)? {
                Made::Directory(directory) => return Ok(directory),
                // A symlink to what is not there: go on with where it points.
                Made::Symlink { depth, target } => path = redirect(&path, &missing, depth, &target),
            }
        }
        Err(Errno::LOOP)
    }

    /// The longest part of `path` that is there, open, and the names that are not.
    fn split(&self, path: &Path) -> std::result::Result<(OwnedFd, Vec<PathBuf>), Errno> {
        let mut missing = Vec::new();
        let mut existing = path.to_owned();
        loop {
            if let Some(name) = existing.file_name() {
                missing.push(PathBuf::from(name));
            }
            existing.pop();
            match self.open(&existing, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) if existing.file_name().is_some() => {}
                Err(error) => return Err(error),
                Ok(directory) => {
                    missing.reverse();
                    return Ok((directory, missing));
                }
            }
        }
    }

    /// Opens the file `path` with `O_PATH`, making it, empty, and the directories above it where
    /// they are missing. What is there may be anything but a directory.
    ///
    /// # Errors
    /// [`Error::Os`] naming the path.
    pub fn make_file(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let path = path.as_ref();
        let action = || format!("make file {} in the rootfs", path.display());
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other.doing(action),
        }
        if !Defence::MakeInside.is_on() {
            let _ = std::fs::write(self.by_name(path), "");
        }
        let (parent, name) = self.parent_of(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        rustix::fs::openat(
            &parent,
            &name,
            flags | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        )
        .doing(action)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, &name, flags, Mode::empty()).doing(action)
    }

    /// The path as a careless runtime would have it.
    fn by_name(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
        Path::new(&root).join(clean(path))
    }

    /// The directory that `path` is in, made where missing, and its last name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the root itself, [`Error::Os`].
    pub fn parent_of(&self, path: &Path) -> Result<(OwnedFd, PathBuf)> {
        let path = clean(path);
        let Some(name) = path.file_name().map(PathBuf::from) else {
            return Err(Error::invalid("path", "is the root of the container"));
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.make_directory(parent)?, name))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

enum Made {
    Directory(OwnedFd),
    Symlink { depth: usize, target: PathBuf },
}

fn make_below(mut parent: OwnedFd, names: &[PathBuf]) -> std::result::Result<Made, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for (depth, name) in names.iter().enumerate() {
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        parent = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let target =
                    rustix::fs::readlinkat(&parent, name, Vec::new()).map_err(|_| Errno::NOTDIR)?;
                let target = PathBuf::from(
                    <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(
                        target.into_bytes(),
                    ),
                );
                return Ok(Made::Symlink { depth, target });
            }
            other => other?,
        };
    }
    Ok(Made::Directory(parent))
}

/// `path` with the component that turned out to be a symlink replaced by its target. `missing`
/// are the last components of `path`, `depth` the symlink's place among them.
fn redirect(path: &Path, missing: &[PathBuf], depth: usize, target: &Path) -> PathBuf {
    let kept = path.components().count() - missing.len() + depth;
    let mut redirected: PathBuf = path.components().take(kept).collect();
    if target.is_absolute() {
        redirected = PathBuf::new();
    }
    redirected.push(target);
    redirected.extend(&missing[depth + 1..]);
    clean(&redirected)
}

#[cfg(test)]
mod tests;
