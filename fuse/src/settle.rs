//! What a new mount has to learn before anybody depends on it.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use index_format::{FileKind, Index, InodeNumber};
use thiserror::Error;

use crate::error::TreeError;

/// Why a mount could not be settled. It works nevertheless.
#[derive(Debug, Error)]
pub enum SettleError {
    /// The index is damaged.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file of the mount cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Opens and closes one regular file of the mount of `index` at `dir`, so that the kernel learns
/// for the mount's life that neither needs a request.
///
/// Call it once, when the first server runs. Until the first close has been answered, every close
/// asks the server, and not even SIGKILL ends the wait for that answer: a process that ends, or
/// that executes another program, while no server runs would hang.
///
/// # Errors
/// See [`SettleError`].
pub fn settle(index: &Index, dir: &Path) -> Result<(), SettleError> {
    let Some(path) = any_file(index)? else {
        return Ok(());
    };
    let path = dir.join(path);
    match File::open(&path) {
        Ok(_) => Ok(()),
        Err(source) => Err(SettleError::Open { path, source }),
    }
}

/// The path of some regular file, relative to the root; `None` where there is none.
fn any_file(index: &Index) -> Result<Option<PathBuf>, TreeError> {
    let mut directories = vec![(PathBuf::new(), InodeNumber::ROOT)];
    while let Some((path, directory)) = directories.pop() {
        for entry in index.entries(directory)? {
            let entry = entry?;
            let path = || path.join(std::ffi::OsStr::from_bytes(entry.name));
            match entry.kind {
                FileKind::Regular => return Ok(Some(path())),
                FileKind::Directory => directories.push((path(), entry.inode)),
                _ => {}
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Layer, Meta, merged};

    fn any_file_of(layer: Layer) -> Option<PathBuf> {
        any_file(&Index::open(merged(&[layer])).unwrap()).unwrap()
    }

    #[test]
    fn a_file_is_found_wherever_it_is() {
        let mut layer = Layer::default();
        layer.directory("a/b", Meta::mode(0o755)).symlink("c", "a");
        layer.directory("d/e/f", Meta::mode(0o755));
        assert_eq!(any_file_of(layer), None);

        let mut layer = Layer::default();
        layer.directory("a/b", Meta::mode(0o755)).symlink("c", "a");
        layer.file("d/e/f", Meta::mode(0o000), b"");
        layer.directory("g", Meta::mode(0o755));
        assert_eq!(any_file_of(layer), Some(PathBuf::from("d/e/f")));
    }
}
