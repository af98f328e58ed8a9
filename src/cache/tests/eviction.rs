//! The budget: what goes, what stays, and that space really comes back.

use index_format::LEAF_SIZE;

use super::{content, disk_bytes, key, layer, open, read, store};
use crate::{NotKept, Priority, Stored};

#[test]
fn demand_evicts_and_the_blocks_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 32);
    let file = layer(&cache, 1, 200);
    for leaf in 0..200 {
        assert_eq!(store(&file, 1, leaf, Priority::Demand), Stored::Kept);
        assert!(cache.usage().used_bytes <= 32 * LEAF_SIZE);
    }
    assert_eq!(cache.usage().used_bytes, file.present_bytes());
    assert!(disk_bytes(directory.path(), 1) <= 34 * LEAF_SIZE);
    for leaf in 0..200 {
        let bytes = read(&file, leaf);
        assert!(bytes.is_none_or(|bytes| bytes == content(1, leaf, LEAF_SIZE)));
    }
}

#[test]
fn background_never_evicts() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 4);
    let file = layer(&cache, 1, 10);
    for leaf in 0..4 {
        assert_eq!(store(&file, 1, leaf, Priority::Background), Stored::Kept);
    }
    let refused = store(&file, 1, 4, Priority::Background);
    assert_eq!(refused, Stored::NotKept(NotKept::Budget));
    assert!((0..4).all(|leaf| read(&file, leaf).is_some()));
    assert_eq!(store(&file, 1, 4, Priority::Demand), Stored::Kept);
    assert_eq!(cache.usage().not_kept, 1);
}

#[test]
fn pinned_leaves_stay_even_if_nothing_else_can_go() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 4);
    let file = layer(&cache, 1, 10);
    for leaf in 0..4 {
        store(&file, 1, leaf, Priority::Demand);
    }
    let pinned = file.pin(0..4 * LEAF_SIZE).unwrap();
    assert_eq!(
        store(&file, 1, 5, Priority::Demand),
        Stored::NotKept(NotKept::Budget)
    );
    let mut bytes = vec![0; LEAF_SIZE as usize];
    for leaf in 0..4 {
        pinned.read_at(leaf * LEAF_SIZE, &mut bytes).unwrap();
        assert_eq!(bytes, content(1, leaf, LEAF_SIZE));
    }
    assert!(pinned.read_at(4 * LEAF_SIZE, &mut bytes).is_err());
    drop(pinned);
    assert_eq!(store(&file, 1, 5, Priority::Demand), Stored::Kept);
}

#[test]
fn what_is_in_use_goes_last() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 40);
    let used = layer(&cache, 1, 20);
    for name in [2, 3] {
        let idle = layer(&cache, name, 10);
        (0..10)
            .for_each(|leaf| assert_eq!(store(&idle, name, leaf, Priority::Demand), Stored::Kept));
    }
    (0..20).for_each(|leaf| assert_eq!(store(&used, 1, leaf, Priority::Demand), Stored::Kept));
    let present = |name: u8| {
        let layers = cache.layers();
        layers
            .iter()
            .find(|l| l.layer == key(name).layer)
            .map_or(0, |l| l.present_bytes / LEAF_SIZE)
    };
    let more = layer(&cache, 4, 20);
    for leaf in 0..20 {
        assert_eq!(store(&more, 4, leaf, Priority::Demand), Stored::Kept);
        assert_eq!(present(1), 20);
        assert!(
            present(3) == 10 || present(2) == 0,
            "the longest unused goes first"
        );
    }
    assert_eq!((present(2), present(3)), (0, 0));
    assert!(!directory.path().join(key(2).directory()).exists());
    assert_eq!(
        store(&layer(&cache, 5, 1), 5, 0, Priority::Demand),
        Stored::Kept
    );
    assert!(present(1) < 20 || present(4) < 20);
}

#[test]
fn recently_read_groups_outlive_others() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 64);
    let file = layer(&cache, 1, 256);
    (0..64).for_each(|leaf| assert_eq!(store(&file, 1, leaf, Priority::Demand), Stored::Kept));
    // The first eviction forgets that everything was just written.
    store(&file, 1, 64, Priority::Demand);
    for leaf in 65..110 {
        assert!(read(&file, 40).is_some(), "before leaf {leaf}");
        store(&file, 1, leaf, Priority::Demand);
    }
    assert!(read(&file, 40).is_some());
}

#[test]
fn an_evicted_idle_layer_is_whole_again_when_opened() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 32);
    let idle = layer(&cache, 1, 30);
    (0..30).for_each(|leaf| assert_eq!(store(&idle, 1, leaf, Priority::Demand), Stored::Kept));
    drop(idle);
    let used = layer(&cache, 2, 10);
    (0..10).for_each(|leaf| assert_eq!(store(&used, 2, leaf, Priority::Demand), Stored::Kept));
    drop((used, cache));
    let cache = open(directory.path(), 32);
    let back = layer(&cache, 1, 30);
    assert!(back.suspects(0..30 * LEAF_SIZE).is_empty());
    let there: Vec<u64> = (0..30)
        .filter(|leaf| read(&back, *leaf).is_some())
        .collect();
    assert!(!there.is_empty() && there.len() <= 22, "{there:?}");
    for leaf in there {
        assert_eq!(read(&back, leaf), Some(content(1, leaf, LEAF_SIZE)));
    }
}

#[test]
fn a_pin_outlives_its_handle() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 20);
    let file = layer(&cache, 1, 20);
    (0..20).for_each(|leaf| assert_eq!(store(&file, 1, leaf, Priority::Demand), Stored::Kept));
    let pinned = file.pin(5 * LEAF_SIZE..6 * LEAF_SIZE).unwrap();
    // With the last handle gone the layer would be the first to be evicted from.
    drop(file);
    let other = layer(&cache, 2, 40);
    (0..40).for_each(|leaf| {
        store(&other, 2, leaf, Priority::Demand);
    });
    let mut bytes = vec![0; LEAF_SIZE as usize];
    pinned.read_at(5 * LEAF_SIZE, &mut bytes).unwrap();
    assert_eq!(bytes, content(1, 5, LEAF_SIZE));
}
