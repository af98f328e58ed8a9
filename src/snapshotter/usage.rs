//! What a directory tree takes on the disk.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::SnapshotError;
use crate::record::Usage;

/// Unit of `st_blocks`.
const BLOCK: u64 = 512;

/// Adds up a tree that may change meanwhile: what goes away under the eyes does not count.
///
/// # Errors
/// The first failing file operation, but for files that are not there any more.
pub fn of_tree(root: &Path) -> Result<Usage, SnapshotError> {
    let mut sum = Sum::default();
    let top = fs::symlink_metadata(root).map_err(SnapshotError::file(root))?;
    sum.add(&top);
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let Some(entries) = unless_gone(fs::read_dir(&directory), &directory)? else {
            continue;
        };
        for entry in entries {
            let Some(entry) = unless_gone(entry, &directory)? else {
                continue;
            };
            // Of the entry itself: links are not followed.
            let Some(found) = unless_gone(entry.metadata(), &directory)? else {
                continue;
            };
            sum.add(&found);
            if found.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(sum.usage)
}

#[derive(Default)]
struct Sum {
    usage: Usage,
    linked: HashSet<(u64, u64)>,
}

impl Sum {
    fn add(&mut self, found: &Metadata) {
        let has_links = found.nlink() > 1 && !found.is_dir();
        if has_links && !self.linked.insert((found.dev(), found.ino())) {
            return;
        }
        self.usage.inodes += 1;
        self.usage.size += found.blocks() * BLOCK;
    }
}

fn unless_gone<T>(result: io::Result<T>, path: &Path) -> Result<Option<T>, SnapshotError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SnapshotError::file(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_count_once_and_holes_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("t");
        fs::create_dir_all(root.join("d")).unwrap();
        let before = of_tree(&root).unwrap();
        assert_eq!(before.inodes, 2);
        fs::write(root.join("a"), vec![1; 100_000]).unwrap();
        fs::hard_link(root.join("a"), root.join("d/b")).unwrap();
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        fs::File::create(root.join("hole"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        fs::File::open(root.join("a")).unwrap().sync_all().unwrap();
        let after = of_tree(&root).unwrap();
        assert_eq!(after.inodes, 5);
        let grown = after.size - before.size;
        assert!((100_000..1 << 20).contains(&grown), "{grown}");
    }
}
