//! The one way to write a file that has to survive a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Start of the names of temporary files; a crash may leave some behind.
const TEMPORARY_PREFIX: &str = ".writing-";

/// Distinguishes the temporary files of concurrent writers in this process.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// How long the new content must live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// Beyond a power failure: two waits for the disk.
    PowerFailure,
    /// Beyond this process; after a power failure the content may be the old one.
    Process,
}

/// Replaces `path` by a file with these bytes so that after a crash, of the machine too, either
/// the old or the new content is there, complete.
///
/// # Errors
/// As [`replace`].
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, Durability::PowerFailure, 0o666)
}

/// Replaces `path` by a file with these bytes and, but for the umask, this mode: a temporary file
/// in the same directory and a rename, so that every reader sees the old or the new content,
/// complete; with fsyncs of the file and of the directory where it must outlive a power failure.
///
/// # Errors
/// The first failing file operation; the old file is then untouched, except when only the last
/// fsync failed: then the new file is in place but may not survive a crash.
pub fn replace(path: &Path, bytes: &[u8], durability: Durability, mode: u32) -> io::Result<()> {
    let directory = parent(path);
    let temporary = temporary_name(directory);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| match durability {
        Durability::PowerFailure => file.sync_all(),
        Durability::Process => Ok(()),
    });
    drop(file);
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        // The error that matters is the first one.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    match durability {
        Durability::PowerFailure => sync_directory(directory),
        Durability::Process => Ok(()),
    }
}

/// Removes a file so that it stays removed after a crash. A missing file is fine.
///
/// # Errors
/// The failing unlink or fsync.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(parent(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a directory's entries to the disk.
///
/// # Errors
/// The failing open or fsync.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Whether a file of this name is a temporary one that a crash left behind.
pub fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes()
        .starts_with(TEMPORARY_PREFIX.as_bytes())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn temporary_name(directory: &Path) -> PathBuf {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    directory.join(format!("{TEMPORARY_PREFIX}{}-{serial}", std::process::id()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{Durability, is_temporary, remove_file, replace, write_file};

    #[test]
    fn replaces_content_and_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write_file(&path, b"one").unwrap();
        replace(&path, b"two", Durability::Process, 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_cleans_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), b"kept").unwrap();
        assert!(write_file(&path, b"file over a full directory").is_err());
        let names: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["state"]);
        assert!(!names.iter().any(|name| is_temporary(name)));
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        remove_file(&directory.path().join("absent")).unwrap();
    }
}
