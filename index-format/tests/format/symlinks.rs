//! Entries whose directories are symlinks in a layer below, or in their own.

use crate::fixture::{directory, file, symlink};
use crate::merge::{compare, without_impossible_links};
use crate::model::{Operation, Path};
use proptest::collection::vec;
use proptest::prelude::*;

/// Directories, some by way of symlinks: relative, absolute, chained, upwards, dangling.
const ROUTES: [&[u8]; 11] = [
    b"",
    b"d1",
    b"to-d1",
    b"to-deep",
    b"chain",
    b"d1/up",
    b"d1/up/d2",
    b"to-d1/up/to-deep",
    b"dangling",
    b"dangling/more",
    b"to-d1/over",
];

/// The files of the base in every directory of its own.
const OLD: [&[u8]; 3] = [b"f0", b"f1", b"f2"];

/// What to do, where, with which old file, from where.
type Step = (u8, &'static [u8], &'static [u8], &'static [u8]);

fn below(directory: &[u8], name: &[u8]) -> Path {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, b"/", name].concat()
    }
}

/// A lower layer with the directories and symlinks, and files to hide or link to.
fn base() -> Vec<Operation> {
    let insert = |path: &[u8], node| Operation::Insert(path.to_vec(), node);
    let mut base = vec![
        insert(b"d1", directory()),
        insert(b"d2", directory()),
        insert(b"d2/deep", directory()),
        insert(b"to-d1", symlink(b"d1")),
        insert(b"to-deep", symlink(b"/d2/./deep/")),
        insert(b"chain", symlink(b"to-d1")),
        insert(b"d1/up", symlink(b"..")),
        insert(b"d1/over", symlink(b"../../../d2/new")),
        insert(b"dangling", symlink(b"not/../yet/there")),
    ];
    for (directory, place) in [&b""[..], b"d1", b"d2", b"d2/deep"].iter().zip(0..) {
        for (name, number) in OLD.iter().zip(0..) {
            base.push(insert(&below(directory, name), file(place * 10 + number)));
        }
    }
    base
}

/// New files have names of their own: where two routes give a layer two files of one path, the
/// order of its entries counts, and an index does not keep it.
fn uppers() -> impl Strategy<Value = Vec<Vec<Operation>>> {
    let route = || prop::sample::select(&ROUTES[..]);
    let old = || prop::sample::select(&OLD[..]);
    let step = prop_oneof![
        route().prop_map(|route| (0, route, &b""[..], &b""[..])),
        (route(), old()).prop_map(|(route, name)| (1, route, name, &b""[..])),
        (route(), old(), route()).prop_map(|(route, name, from)| (2, route, name, from)),
    ];
    vec(vec(step, 0..8), 1..4).prop_map(|layers| {
        let mut number = 100;
        let layer = |steps: Vec<Step>| {
            let operation = |(what, route, name, from): Step| {
                number += 1;
                let new = below(route, format!("new{number}").as_bytes());
                match what {
                    0 => Operation::Insert(new, file(number)),
                    1 => Operation::Whiteout(route.to_vec(), name.to_vec()),
                    _ => Operation::Hardlink(new, below(from, name)),
                }
            };
            steps.into_iter().map(operation).collect()
        };
        layers.into_iter().map(layer).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entries_follow_the_symlinks_of_lower_layers(uppers in uppers()) {
        let layers = std::iter::once(base()).chain(uppers).collect();
        compare(&without_impossible_links(layers))?;
    }

    #[test]
    fn entries_follow_the_symlinks_of_their_own_layer(uppers in uppers()) {
        let layer = base().into_iter().chain(uppers.into_iter().flatten()).collect();
        // Alone, so that what a whiteout hides below does not matter.
        compare(&without_impossible_links(vec![layer]))?;
    }
}

/// Debian's merged /usr: an image adds lib/x without an entry for lib.
#[test]
fn lib_over_a_symlink_to_usr_lib_lands_in_usr_lib() {
    let insert = |path: &[u8], node| Operation::Insert(path.to_vec(), node);
    let base = vec![
        insert(b"usr/lib/libc.so", file(1)),
        insert(b"lib", symlink(b"usr/lib")),
    ];
    let upper = vec![insert(b"lib/libx.so", file(2))];
    let tree = |operations: &[Operation]| crate::model::layer(&crate::model::tree(operations));
    let merged = index_format::merge(
        &[tree(&base), tree(&upper)],
        &index_format::Limits::default(),
    );
    let index = index_format::Index::open(merged.unwrap().bytes).unwrap();
    assert!(index.resolve(b"usr/lib/libx.so").unwrap().is_some());
    assert!(index.resolve(b"usr/lib/libc.so").unwrap().is_some());
    compare(&[base.clone(), upper]).unwrap();
    // With an entry for lib itself, a directory takes the symlink's place.
    compare(&[
        base,
        vec![insert(b"lib", directory()), insert(b"lib/libx.so", file(2))],
    ])
    .unwrap();
}
