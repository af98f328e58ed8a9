//! What survives a clean stop, and what an unclean one makes doubtful.

use std::os::unix::fs::FileExt;

use index_format::{Digest, LEAF_SIZE};

use super::{content, crash_copy, key, layer, open, read, store};
use crate::{Budget, Cache, CacheError, LayerKey, Priority, Scope};

#[test]
fn a_clean_stop_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 100);
    let size = 9 * LEAF_SIZE + 77;
    let file = cache.layer(&key(1), size).unwrap();
    for leaf in [0, 3, 9] {
        store(&file, 1, leaf, Priority::Demand);
    }
    drop((file, cache));
    let cache = open(directory.path(), 100);
    assert_eq!(cache.usage().used_bytes, 2 * LEAF_SIZE + 77);
    let file = cache.layer(&key(1), size).unwrap();
    assert!(file.suspects(0..size).is_empty());
    assert_eq!(read(&file, 9), Some(content(1, 9, 77)));
    assert_eq!(read(&file, 3), Some(content(1, 3, LEAF_SIZE)));
    assert_eq!(read(&file, 1), None);
}

#[test]
fn after_a_crash_leaves_are_served_only_once_verified() {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (
        directory.path().join("before"),
        directory.path().join("after"),
    );
    let cache = open(&before, 100);
    let file = layer(&cache, 1, 10);
    for leaf in 0..4 {
        store(&file, 1, leaf, Priority::Demand);
    }
    crash_copy(&before, &after);
    // The disk lost what was in one leaf and damaged another.
    let stream = after.join(key(1).directory()).join("stream");
    let stream = std::fs::File::options().write(true).open(stream).unwrap();
    stream
        .write_all_at(&vec![0; LEAF_SIZE as usize], LEAF_SIZE)
        .unwrap();
    stream.write_all_at(b"x", 2 * LEAF_SIZE + 500).unwrap();

    let cache = open(&after, 100);
    let file = layer(&cache, 1, 10);
    assert_eq!(file.suspects(0..10 * LEAF_SIZE), [0, 1, 2, 3]);
    for leaf in 0..4 {
        assert_eq!(read(&file, leaf), None, "leaf {leaf} was served unverified");
        let expected = content(1, leaf, LEAF_SIZE);
        let right = file.confirm(leaf, |bytes| bytes == expected);
        assert_eq!(right, leaf == 0 || leaf == 3);
        assert_eq!(read(&file, leaf).is_some(), right);
    }
    assert_eq!(cache.usage().used_bytes, 2 * LEAF_SIZE);
    assert_eq!(file.present_bytes(), 2 * LEAF_SIZE);
}

#[test]
fn what_was_never_confirmed_stays_suspect_over_a_clean_stop() {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (
        directory.path().join("before"),
        directory.path().join("after"),
    );
    let cache = open(&before, 100);
    let file = layer(&cache, 1, 10);
    store(&file, 1, 5, Priority::Demand);
    store(&file, 1, 6, Priority::Demand);
    crash_copy(&before, &after);
    let cache = open(&after, 100);
    let file = layer(&cache, 1, 10);
    assert!(file.confirm(6, |_| true));
    drop((file, cache));
    let cache = open(&after, 100);
    let file = layer(&cache, 1, 10);
    assert_eq!(file.suspects(0..10 * LEAF_SIZE), [5]);
    // A fetched copy replaces a suspect one.
    store(&file, 1, 5, Priority::Background);
    assert_eq!(read(&file, 5), Some(content(1, 5, LEAF_SIZE)));
    assert_eq!(cache.usage().used_bytes, 2 * LEAF_SIZE);
}

#[test]
fn a_damaged_bitmap_costs_the_layer_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 100);
    for name in [1, 2] {
        store(&layer(&cache, name, 4), name, 0, Priority::Demand);
    }
    drop(cache);
    let present = directory.path().join(key(1).directory()).join("present");
    std::fs::write(present, b"garbage").unwrap();
    let cache = open(directory.path(), 100);
    assert_eq!(cache.usage().used_bytes, LEAF_SIZE);
    assert_eq!(read(&layer(&cache, 1, 4), 0), None);
    assert_eq!(
        read(&layer(&cache, 2, 4), 0),
        Some(content(2, 0, LEAF_SIZE))
    );
}

#[test]
fn data_that_a_crash_left_unnoted_is_freed() {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (
        directory.path().join("before"),
        directory.path().join("after"),
    );
    let cache = open(&before, 100);
    let file = layer(&cache, 1, 10);
    store(&file, 1, 2, Priority::Demand);
    crash_copy(&before, &after);
    let path = after.join(key(1).directory()).join("stream");
    let stream = std::fs::File::options().write(true).open(path).unwrap();
    stream
        .write_all_at(&vec![7; LEAF_SIZE as usize], 8 * LEAF_SIZE)
        .unwrap();
    stream.sync_all().unwrap();
    let cache = open(&after, 100);
    let file = layer(&cache, 1, 10);
    let mut bytes = vec![1; LEAF_SIZE as usize];
    let path = after.join(key(1).directory()).join("stream");
    std::fs::File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, 8 * LEAF_SIZE)
        .unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    assert_eq!(file.present_bytes(), LEAF_SIZE);
}

#[test]
fn one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 1);
    let second = Cache::open(directory.path(), Budget::default());
    assert!(second.is_err_and(|error| error.is_locked()));
    drop(cache);
    open(directory.path(), 1);
}

#[test]
fn removal_waits_for_readers() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 100);
    let file = layer(&cache, 1, 10);
    store(&file, 1, 2, Priority::Demand);
    assert!(cache.remove(&key(1)).is_err_and(|error| error.is_in_use()));
    let other_size = cache.layer(&key(1), 5);
    assert!(matches!(other_size, Err(CacheError::SizeDiffers { .. })));
    drop(file);
    cache.remove(&key(1)).unwrap();
    assert!(cache.remove(&key(1)).is_err_and(|error| error.is_unknown()));
    assert_eq!(cache.usage().used_bytes, 0);
    assert!(!directory.path().join(key(1).directory()).exists());
}

#[test]
fn an_untrusted_copy_is_apart_until_promoted() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 100);
    let scope = Scope::Untrusted {
        repository: "host/name".into(),
        index: Digest::of(b"index"),
    };
    let untrusted = LayerKey { scope, ..key(1) };
    let file = cache.layer(&untrusted, 10 * LEAF_SIZE).unwrap();
    store(&file, 1, 2, Priority::Demand);
    assert!(!directory.path().join(key(1).directory()).exists());
    assert!(cache.promote(&untrusted).unwrap());
    assert!(!cache.promote(&untrusted).unwrap());
    // The old handle and a new one are the same copy now.
    store(&file, 1, 3, Priority::Demand);
    assert_eq!(
        read(&layer(&cache, 1, 10), 3),
        Some(content(1, 3, LEAF_SIZE))
    );
    assert_eq!(file.key(), key(1));
    drop((file, cache));
    let cache = open(directory.path(), 100);
    let usage = cache.layers();
    assert_eq!(usage.len(), 1);
    assert!(usage[0].trusted && !usage[0].in_use);
    assert_eq!(usage[0].present_bytes, 2 * LEAF_SIZE);
    assert!(layer(&cache, 1, 10).suspects(0..10 * LEAF_SIZE).is_empty());
}
