//! The directories of the snapshots: one for each, by id.
//!
//! A snapshot's directory is there before its record is, and goes after it. What a crash leaves
//! between the two has no record, and is cleared away at the next start.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::error::SnapshotError;

/// Mode of a snapshot's own root, whatever the umask.
const ROOT_MODE: u32 = 0o755;
/// Mode of an overlay's work directory.
const WORK_MODE: u32 = 0o711;

/// The directories below a root that is its owner's alone.
pub struct Directories {
    root: PathBuf,
}

impl Directories {
    /// Makes what is missing of the root.
    ///
    /// # Errors
    /// The first failing file operation.
    pub fn open(root: &Path) -> Result<Self, SnapshotError> {
        let directories = Directories {
            root: root.to_path_buf(),
        };
        for path in [
            root.to_path_buf(),
            directories.living(),
            directories.removed(),
        ] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(SnapshotError::file(&path))?;
        }
        // The root may have been made by somebody else, with another mode.
        fs::set_permissions(root, Permissions::from_mode(0o700))
            .map_err(SnapshotError::file(root))?;
        Ok(directories)
    }

    /// The file of the records.
    pub fn metadata(&self) -> PathBuf {
        self.root.join("metadata.redb")
    }

    fn living(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    fn removed(&self) -> PathBuf {
        self.root.join("removed")
    }

    fn directory(&self, id: u64) -> PathBuf {
        self.living().join(id.to_string())
    }

    /// The content of a snapshot: its root, without what its parents add.
    pub fn content(&self, id: u64) -> PathBuf {
        self.directory(id).join("fs")
    }

    /// The overlay's work directory of an active snapshot.
    pub fn work(&self, id: u64) -> PathBuf {
        self.directory(id).join("work")
    }

    /// Makes the directory of a new snapshot. Its root belongs to whom `below` belongs to, the
    /// root of what it stands on.
    ///
    /// # Errors
    /// The first failing file operation; what was made is then taken away again.
    pub fn create(
        &self,
        id: u64,
        writable: bool,
        below: Option<&Path>,
    ) -> Result<(), SnapshotError> {
        if self.directory(id).exists() {
            // Left by a transaction that did not come to its end.
            self.retire(id)?;
        }
        self.fill(id, writable, below).inspect_err(|_| {
            // The error that matters is the first one.
            let _ = self.retire(id);
        })
    }

    fn fill(&self, id: u64, writable: bool, below: Option<&Path>) -> Result<(), SnapshotError> {
        make(&self.directory(id), 0o700)?;
        let content = self.content(id);
        make(&content, ROOT_MODE)?;
        if let Some(below) = below {
            let owner = fs::metadata(below).map_err(SnapshotError::file(below))?;
            chown(&content, Some(owner.uid()), Some(owner.gid()))
                .map_err(SnapshotError::file(&content))?;
        }
        if writable {
            make(&self.work(id), WORK_MODE)?;
        }
        Ok(())
    }

    /// Gives a snapshot's root the mode of another directory.
    ///
    /// # Errors
    /// The first failing file operation.
    pub fn copy_mode(&self, id: u64, from: &Path) -> Result<(), SnapshotError> {
        let mode = fs::metadata(from)
            .map_err(SnapshotError::file(from))?
            .permissions();
        let content = self.content(id);
        fs::set_permissions(&content, mode).map_err(SnapshotError::file(&content))
    }

    /// Takes a snapshot's directory out of the way, at once; [`Directories::clear`] frees it.
    ///
    /// # Errors
    /// What rename(2) answers, but for a directory that is not there.
    pub fn retire(&self, id: u64) -> Result<(), SnapshotError> {
        self.retire_path(&self.directory(id), &id.to_string())
    }

    fn retire_path(&self, path: &Path, name: &str) -> Result<(), SnapshotError> {
        let mut serial = 0_u64;
        loop {
            let target = self.removed().join(format!("{name}.{serial}"));
            match fs::rename(path, &target) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) =>
                {
                    serial += 1;
                }
                Err(source) => {
                    return Err(SnapshotError::File {
                        path: path.to_path_buf(),
                        source,
                    });
                }
            }
        }
    }

    /// Frees the directories that were taken out of the way.
    ///
    /// # Errors
    /// The first one that cannot be freed, after all others are.
    pub fn clear(&self) -> Result<(), SnapshotError> {
        let removed = self.removed();
        let mut result = Ok(());
        for entry in fs::read_dir(&removed).map_err(SnapshotError::file(&removed))? {
            let path = entry.map_err(SnapshotError::file(&removed))?.path();
            match fs::remove_dir_all(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound && result.is_ok() => {
                    result = Err(SnapshotError::File { path, source });
                }
                _ => {}
            }
        }
        result
    }

    /// Takes everything out of the way that is none of these snapshots.
    ///
    /// # Errors
    /// The first failing file operation.
    pub fn keep_only(&self, ids: &HashSet<u64>) -> Result<(), SnapshotError> {
        let living = self.living();
        for entry in fs::read_dir(&living).map_err(SnapshotError::file(&living))? {
            let entry = entry.map_err(SnapshotError::file(&living))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.parse().is_ok_and(|id| ids.contains(&id)) {
                continue;
            }
            tracing::info!(
                directory = name,
                "a directory without a snapshot is cleared away"
            );
            self.retire_path(&entry.path(), &name)?;
        }
        Ok(())
    }

    /// Whether a snapshot's directory is there.
    pub fn is_there(&self, id: u64) -> bool {
        self.content(id).is_dir()
    }
}

fn make(path: &Path, mode: u32) -> Result<(), SnapshotError> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(SnapshotError::file(path))
}
