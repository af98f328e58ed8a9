//! Start-up sets and tables of packs: what was written is read back, and nothing else is.

use index_format::startup::{LeafRun, PackTable, StartupSet, runs};
use index_format::{Digest, LEAF_SIZE};
use proptest::prelude::*;

fn layers() -> Vec<Digest> {
    (0..3u8).map(|n| Digest::of(&[n])).collect()
}

fn touched() -> impl Strategy<Value = Vec<(u32, u64)>> {
    prop::collection::vec((0..4u32, 0..40u64), 0..60)
}

fn flat(runs: &[LeafRun]) -> Vec<(u32, u64)> {
    let leaves = |run: &LeafRun| run.leaves.clone().map(|leaf| (run.layer, leaf)).collect();
    runs.iter()
        .flat_map(|run| -> Vec<_> { leaves(run) })
        .collect()
}

fn table() -> PackTable {
    let frames = vec![
        (100, runs([(0, 5), (0, 6), (1, 9)])),
        (7, runs([(1, 2), (0, 0), (0, 1)])),
    ];
    PackTable::new(layers(), frames)
}

proptest! {
    #[test]
    fn a_set_is_read_back_and_its_order_is_that_of_the_starts(
        starts in prop::collection::vec(touched(), 1..6),
    ) {
        let mut sets = starts.iter().map(|start| StartupSet::of_start(&layers(), start.iter().copied()));
        let mut merged = sets.next().unwrap();
        let first: Vec<_> = merged.leaves().iter().map(|l| (l.layer, l.leaf)).collect();
        for set in sets {
            merged.merge(&set);
        }
        prop_assert_eq!(merged.starts(), starts.len() as u32);
        // What the first start touched is still in its order.
        let kept: Vec<_> = merged.leaves().iter().map(|l| (l.layer, l.leaf)).filter(|l| first.contains(l)).collect();
        prop_assert_eq!(&kept, &first);
        // Counted as often as some start touched it; the usual ones are half of them or more.
        let wanted = flat(&merged.runs());
        for leaf in merged.leaves() {
            let layer = merged.layers()[leaf.layer as usize];
            let number = layers().iter().position(|l| *l == layer).unwrap() as u32;
            let count = starts.iter().filter(|s| s.contains(&(number, leaf.leaf))).count();
            prop_assert_eq!(leaf.seen as usize, count);
            prop_assert_eq!(wanted.contains(&(leaf.layer, leaf.leaf)), count * 2 >= starts.len());
        }
        prop_assert_eq!(StartupSet::decode(&merged.encode()).unwrap(), merged);
    }

    #[test]
    fn any_damaged_byte_of_a_set_or_table_is_detected(at in 0..400usize, bit in 0..8u8) {
        let set = StartupSet::of_start(&layers(), [(0, 1), (2, 7), (2, 8), (1, 0)]);
        let (mut set, mut table) = (set.encode(), table().encode());
        let (in_set, in_table) = (at % set.len(), at % table.len());
        set[in_set] ^= 1 << bit;
        table[in_table] ^= 1 << bit;
        prop_assert!(StartupSet::decode(&set).is_err());
        prop_assert!(PackTable::decode(&table).is_err());
    }
}

#[test]
fn many_starts_are_remembered_by_halves() {
    let start = |leaf| StartupSet::of_start(&layers(), [(0, 1), (0, leaf)]);
    let mut set = start(2);
    for _ in 0..40 {
        set.merge(&start(3));
    }
    assert!(set.starts() <= 16);
    assert_eq!(flat(&set.runs()), [(0, 1), (0, 3)]);
    let old = set.leaves().iter().any(|leaf| leaf.leaf == 2);
    assert!(!old, "what nobody touches any more is forgotten");
    assert_eq!(StartupSet::decode(&set.encode()).unwrap(), set);
}

#[test]
fn a_table_is_read_back_and_says_where_its_frames_are() {
    let table = table();
    let bytes = table.encode();
    assert_eq!(PackTable::length(&bytes).unwrap(), bytes.len() as u64);
    let start = bytes.len() as u64;
    assert_eq!(table.frames[0].compressed, start..start + 100);
    assert_eq!(table.frames[1].compressed, start + 100..start + 107);
    assert_eq!((table.size(), table.leaves()), (start + 107, 6));
    let longer = [&bytes[..], b"frames follow"].concat();
    assert_eq!(PackTable::decode(&longer).unwrap(), table);
    for length in 0..bytes.len() {
        assert!(PackTable::decode(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn what_would_fill_the_memory_is_refused() {
    let table = |frames| PackTable::new(layers(), frames).encode();
    let long = |leaves| {
        vec![LeafRun {
            layer: 0,
            leaves: 0..leaves,
        }]
    };
    assert!(PackTable::decode(&table(vec![(5, long(128))])).is_ok());
    assert!(PackTable::decode(&table(vec![(5, long(129))])).is_err());
    assert!(PackTable::decode(&table(vec![(0, long(1))])).is_err());
    assert!(PackTable::decode(&table(vec![(u32::MAX, long(1))])).is_err());
    assert!(PackTable::decode(&table(vec![(5, Vec::new())])).is_err());
    let mut no_layer = long(1);
    no_layer[0].layer = 3;
    assert!(PackTable::decode(&table(vec![(5, no_layer)])).is_err());
    let mut header = table(Vec::new());
    header[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(PackTable::length(&header).is_err());
    let far = StartupSet::of_start(&layers(), [(0, u64::MAX / LEAF_SIZE), (9, 0)]);
    assert!(far.leaves().is_empty());
}
