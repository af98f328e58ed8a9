//! A filesystem that is really full: a small tmpfs, mounted for the test (needs root).

use std::path::{Path, PathBuf};

use index_format::LEAF_SIZE;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{content, key, layer, read, store};
use crate::{Budget, Cache, NotKept, Priority, Stored, Written};

/// A tmpfs of its own, gone with this value whatever the test does.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(kibibytes: u64) -> SmallDisk {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={kibibytes}k");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("tmpfs"),
            directory.path(),
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )
        .expect("this test mounts a tmpfs and needs root");
        SmallDisk { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes all space but `left` bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let stat = nix::sys::statvfs::statvfs(self.path()).unwrap();
        let free = stat.blocks_available() * stat.fragment_size();
        let path = self.path().join("ballast");
        let file = std::fs::File::create(&path).unwrap();
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, free - left).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = umount2(self.directory.path(), MntFlags::MNT_DETACH);
        if !std::thread::panicking() {
            unmounted.unwrap();
        }
    }
}

#[test]
fn a_full_disk_is_no_error() {
    let disk = SmallDisk::mount(4096);
    let root = disk.path().join("cache");
    let cache = Cache::open(&root, Budget::Bytes(1 << 30)).unwrap();
    let file = layer(&cache, 1, 200);
    store(&file, 1, 0, Priority::Demand);
    let ballast = disk.fill(LEAF_SIZE / 2);
    // The sample of free space is still from before: the write itself meets ENOSPC.
    let outcome = store(&file, 1, 1, Priority::Background);
    assert_eq!(outcome, Stored::NotKept(NotKept::Disk));
    assert_eq!(read(&file, 1), None);
    assert_eq!(cache.usage().used_bytes, LEAF_SIZE);
    // Demand gives up an older leaf for the new one.
    assert_eq!(store(&file, 1, 2, Priority::Demand), Stored::Kept);
    assert_eq!(read(&file, 2), Some(content(1, 2, LEAF_SIZE)));
    assert_eq!(read(&file, 0), None);
    std::fs::remove_file(ballast).unwrap();
}

#[test]
fn five_percent_stay_free_and_eviction_keeps_it_so() {
    let disk = SmallDisk::mount(8192);
    let root = disk.path().join("cache");
    let cache = Cache::open(&root, Budget::Share(100)).unwrap();
    let file = layer(&cache, 1, 300);
    for leaf in 0..300 {
        assert_eq!(
            store(&file, 1, leaf, Priority::Demand),
            Stored::Kept,
            "leaf {leaf}"
        );
        let stat = nix::sys::statvfs::statvfs(disk.path()).unwrap();
        assert!(stat.blocks_available() * 100 >= stat.blocks() * 5 - 100);
    }
    assert!(file.present_bytes() > 90 * LEAF_SIZE);
}

#[test]
fn a_layer_larger_than_the_disk_is_written_partly() {
    let disk = SmallDisk::mount(2048);
    let root = disk.path().join("cache");
    let cache = Cache::open(&root, Budget::default()).unwrap();
    let mut writer = cache.writer(&key(1)).unwrap();
    for leaf in 0..64 {
        writer.append(&content(1, leaf, LEAF_SIZE)).unwrap();
    }
    assert_eq!(writer.append(b"").unwrap(), Written::Partly);
    let file = writer.commit().unwrap();
    assert!(!file.is_complete());
    let there: Vec<u64> = (0..64)
        .filter(|leaf| read(&file, *leaf).is_some())
        .collect();
    assert!(there.len() > 10 && there.len() < 30, "{}", there.len());
    assert!(
        there
            .iter()
            .all(|leaf| read(&file, *leaf) == Some(content(1, *leaf, LEAF_SIZE)))
    );
}
