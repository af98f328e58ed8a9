//! Whole layers written in stream order.

use index_format::LEAF_SIZE;

use super::{content, disk_bytes, key, layer, open, read, store};
use crate::{CacheError, Priority, Written};

fn stream(leaves: u64, rest: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..leaves)
        .flat_map(|leaf| content(1, leaf, LEAF_SIZE))
        .collect();
    bytes.extend(content(1, leaves, rest));
    bytes
}

#[test]
fn nothing_is_visible_before_commit() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 100);
    let mut writer = cache.writer(&key(1)).unwrap();
    for piece in stream(5, 100).chunks(50_001) {
        assert_eq!(writer.append(piece).unwrap(), Written::Whole);
    }
    assert_eq!(cache.usage().used_bytes, 5 * LEAF_SIZE);
    assert!(cache.layers().is_empty());
    let file = writer.commit().unwrap();
    assert!(file.is_complete());
    assert_eq!(file.stream_size(), 5 * LEAF_SIZE + 100);
    assert_eq!(cache.usage().used_bytes, 5 * LEAF_SIZE + 100);
    assert_eq!(read(&file, 5), Some(content(1, 5, 100)));
    assert_eq!(
        std::fs::read_dir(directory.path().join("incoming"))
            .unwrap()
            .count(),
        0
    );
    drop((file, cache));
    let cache = open(directory.path(), 100);
    let file = cache.layer(&key(1), 5 * LEAF_SIZE + 100).unwrap();
    assert!(file.is_complete());
}

#[test]
fn an_abandoned_layer_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 100);
    let mut writer = cache.writer(&key(1)).unwrap();
    writer.append(&stream(5, 100)).unwrap();
    drop(writer);
    assert_eq!(cache.usage().used_bytes, 0);
    assert_eq!(
        std::fs::read_dir(directory.path().join("incoming"))
            .unwrap()
            .count(),
        0
    );
    assert!(cache.layers().is_empty());
}

#[test]
fn readers_of_a_partial_copy_get_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 10);
    let lazy = layer(&cache, 1, 8);
    store(&lazy, 1, 3, Priority::Demand);
    let mut writer = cache.writer(&key(1)).unwrap();
    writer.append(&stream(8, 0)).unwrap();
    let file = writer.commit().unwrap();
    assert!(std::sync::Arc::ptr_eq(&file, &lazy));
    assert!(lazy.is_complete());
    assert_eq!(cache.usage().used_bytes, 8 * LEAF_SIZE);
    assert!(disk_bytes(directory.path(), 1) <= 9 * LEAF_SIZE);
    for leaf in 0..8 {
        assert_eq!(read(&lazy, leaf), Some(content(1, leaf, LEAF_SIZE)));
    }
}

#[test]
fn a_commit_does_not_replace_a_copy_in_use_by_one_of_another_size() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 100);
    let lazy = layer(&cache, 1, 8);
    let mut writer = cache.writer(&key(1)).unwrap();
    writer.append(&stream(7, 0)).unwrap();
    assert!(matches!(
        writer.commit(),
        Err(CacheError::SizeDiffers { .. })
    ));
    assert_eq!(cache.usage().used_bytes, 0);
    drop(lazy);
}

#[test]
fn an_empty_layer_is_complete() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 100);
    let file = cache.writer(&key(1)).unwrap().commit().unwrap();
    assert!(file.is_complete());
    assert!(file.pin(0..0).is_some());
    assert!(file.pin(0..1).is_none());
}
