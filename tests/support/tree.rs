//! Two directory trees, compared in everything that a program can see.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Everything of one name but its links to other names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    mode: u32,
    uid: u32,
    gid: u32,
    /// Nothing for directories: file systems count their links differently.
    links: Option<u64>,
    size: Option<u64>,
    modified: Option<(i64, i64)>,
    device: Option<u64>,
    target: Option<PathBuf>,
    content: Option<Vec<u8>>,
    xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The first name, in the order of the walk, of the same file.
    same_as: PathBuf,
}

/// Walks a tree by name order; the root itself is the empty path. Of directories, only those in
/// `timed` have times that can be compared: an unpacker gives the others the time of the day.
pub fn walk(root: &Path, timed: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = root.join(&relative);
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            let mut names: Vec<_> = std::fs::read_dir(&path)
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            names.sort();
            waiting.extend(names.iter().rev().map(|name| relative.join(name)));
        }
        let first = first_names
            // An overlay gives directories and files devices of their own.
            .entry((metadata.dev(), metadata.ino()))
            .or_insert_with(|| relative.clone())
            .clone();
        let is_timed = !metadata.is_dir() || timed.contains(&relative);
        let seen = see(&path, &metadata, first, is_timed);
        found.insert(relative, seen);
    }
    found
}

fn see(path: &Path, metadata: &std::fs::Metadata, same_as: PathBuf, is_timed: bool) -> Seen {
    let kind = metadata.file_type();
    let is_device = kind.is_char_device() || kind.is_block_device();
    let content = kind
        .is_file()
        .then(|| Sha256::digest(std::fs::read(path).unwrap()).to_vec());
    Seen {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        links: (!kind.is_dir()).then(|| metadata.nlink()),
        size: (kind.is_file() || kind.is_symlink()).then(|| metadata.size()),
        modified: is_timed.then(|| (metadata.mtime(), metadata.mtime_nsec())),
        device: is_device.then(|| metadata.rdev()),
        target: kind.is_symlink().then(|| std::fs::read_link(path).unwrap()),
        content,
        xattrs: xattrs(path),
        same_as,
    }
}

fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0; 65536];
        let name = std::ffi::OsStr::from_bytes(name);
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        found.insert(name.to_owned(), value[..length].to_vec());
    }
    found
}

/// Panics with the first differences of two trees, if there are any.
pub fn assert_equal(left: &BTreeMap<PathBuf, Seen>, right: &BTreeMap<PathBuf, Seen>) {
    let mut differences = Vec::new();
    for name in left
        .keys()
        .chain(right.keys().filter(|name| !left.contains_key(*name)))
    {
        match (left.get(name), right.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => differences.push(format!("{name:?}\n  left  {a:?}\n  right {b:?}")),
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} names differ:\n{}",
        differences.len(),
        left.len(),
        differences
            .iter()
            .take(10)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}
