//! Tar archives that hold an image layout (`oci-archive:`): what lies where in one.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use crate::layout_directory::open_regular;
use crate::layout_error::LayoutError;
use crate::limits::MAX_ARCHIVE_MEMBERS;

/// The regular files of an archive by name.
#[derive(Debug, Default)]
pub(super) struct Members {
    places: HashMap<PathBuf, Range<u64>>,
}

impl Members {
    /// Reads the headers of an archive.
    pub(super) fn read(path: &Path) -> Result<Self, LayoutError> {
        let read = || -> io::Result<Self> {
            let file = open_regular(path)?;
            let length = file.metadata()?.len();
            let mut archive = tar::Archive::new(file);
            let mut members = Self::default();
            for entry in archive.entries_with_seek()? {
                let entry = entry?;
                if !entry.header().entry_type().is_file() {
                    continue;
                }
                let start = entry.raw_file_position();
                let end = start
                    .checked_add(entry.size())
                    .filter(|end| *end <= length)
                    .ok_or_else(|| io::Error::other("the archive is cut short"))?;
                members.places.insert(normal(&entry.path()?), start..end);
                if members.places.len() > MAX_ARCHIVE_MEMBERS {
                    return Err(io::Error::other(format!(
                        "more than {MAX_ARCHIVE_MEMBERS} members"
                    )));
                }
            }
            Ok(members)
        };
        read().map_err(|source| LayoutError::Io {
            path: path.to_path_buf(),
            source,
        })
    }

    /// Where the content of a member lies.
    pub(super) fn place(&self, name: &Path) -> Option<Range<u64>> {
        self.places.get(name).cloned()
    }
}

/// A name without `./`, as `tar -C DIR .` writes it.
fn normal(name: &Path) -> PathBuf {
    name.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}
