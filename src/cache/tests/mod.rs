//! Tests of the cache as a whole, on a real filesystem.

mod durability;
mod eviction;
mod full_disk;
mod model;
mod threads;
mod writing;

use std::path::Path;
use std::sync::Arc;

use index_format::{Digest, LEAF_SIZE};

use super::{Budget, Cache, LayerFile, LayerKey, Priority, Stored};

fn key(name: u8) -> LayerKey {
    LayerKey::trusted(Digest::of(&[name]))
}

/// The right bytes of a leaf: different for every layer and leaf, and nowhere zero.
fn content(name: u8, leaf: u64, length: u64) -> Vec<u8> {
    (0..length)
        .map(|i| 1 + ((i / 7 + leaf * 31 + u64::from(name) * 101) % 255) as u8)
        .collect()
}

fn leaf_length(stream_size: u64, leaf: u64) -> u64 {
    (stream_size - leaf * LEAF_SIZE).min(LEAF_SIZE)
}

fn store(file: &LayerFile, name: u8, leaf: u64, priority: Priority) -> Stored {
    let length = leaf_length(file.stream_size(), leaf);
    file.store(leaf, &content(name, leaf, length), priority)
        .unwrap()
}

/// Reads one leaf through a pin; `None` when it is not there.
fn read(file: &Arc<LayerFile>, leaf: u64) -> Option<Vec<u8>> {
    let length = leaf_length(file.stream_size(), leaf);
    let start = leaf * LEAF_SIZE;
    let pinned = file.pin(start..start + length)?;
    let mut bytes = vec![0; length as usize];
    pinned.read_at(start, &mut bytes).unwrap();
    Some(bytes)
}

fn open(root: &Path, leaves: u64) -> Cache {
    Cache::open(root, Budget::Bytes(leaves * LEAF_SIZE)).unwrap()
}

fn layer(cache: &Cache, name: u8, leaves: u64) -> Arc<LayerFile> {
    cache.layer(&key(name), leaves * LEAF_SIZE).unwrap()
}

/// Blocks that a layer's stream occupies, in bytes.
fn disk_bytes(root: &Path, name: u8) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let path = root.join(key(name).directory()).join("stream");
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// What a killed process leaves: its files as they are now, in another directory.
fn crash_copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            crash_copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
