//! Replacing a small file so that a reader, and a crash, see the old or the new content.

use super::error::ContainerError;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// How long the new content must live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// Beyond a power failure: two more waits for the disk.
    PowerFailure,
    /// Beyond this process; after a power failure the content may be the old one.
    Process,
}

/// Replaces the file at `path`. Readable by its owner alone.
pub fn replace(path: &Path, content: &[u8], durability: Durability) -> Result<(), ContainerError> {
    let failed = || ContainerError::file("write", path);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let opened = rustix::fs::open(&temporary, flags, mode).map_err(|errno| failed()(errno.into()));
    let mut file = File::from(opened?);
    let written = file.write_all(content).and_then(|()| match durability {
        Durability::PowerFailure => file.sync_all(),
        Durability::Process => Ok(()),
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&temporary, path)) {
        // The error matters, not what is left of the attempt.
        let _ = std::fs::remove_file(&temporary);
        return Err(failed()(error));
    }
    if durability == Durability::PowerFailure
        && let Some(directory) = path.parent()
    {
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        replace(&path, b"long content", Durability::Process).unwrap();
        replace(&path, b"new", Durability::PowerFailure).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_keeps_the_directory_clean() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new", Durability::Process).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
