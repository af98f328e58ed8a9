//! Merging layers gives what unpacking them one after the other gives.

use crate::fixture::{directory, file};
use crate::model;
use crate::model::{Disk, Operation};
use index_format::{Index, InodeNumber, Limits, MergeError, MergeWarning, Tree, merge};
use proptest::prelude::*;

/// Leaves out hardlinks whose target is a directory or nowhere when their turn comes: unpacking
/// would end there.
pub fn without_impossible_links(layers: Vec<Vec<Operation>>) -> Vec<Vec<Operation>> {
    let mut disk = Disk::new();
    let mut kept_layers: Vec<Vec<Operation>> = Vec::new();
    for (layer, number) in layers.into_iter().zip(0..) {
        let mut kept = Vec::new();
        for operation in layer {
            let mut trial = disk.clone();
            trial.unpack(number, &kept);
            let is_bad = match &operation {
                Operation::Hardlink(path, target) if path != target => {
                    !trial.is_file(target) && (trial.exists(target) || !disk.is_file(target))
                }
                Operation::Hardlink(..) => true,
                _ => false,
            };
            if !is_bad {
                kept.push(operation);
            }
        }
        disk.unpack(number, &kept);
        kept_layers.push(kept);
    }
    kept_layers
}

pub fn compare(layers: &[Vec<Operation>]) -> Result<(), TestCaseError> {
    let mut disk = Disk::new();
    let mut indexes = Vec::new();
    for (operations, number) in layers.iter().zip(0..) {
        disk.unpack(number, operations);
        indexes.push(model::layer(&model::tree(operations)));
    }
    let merged = merge(&indexes, &Limits::default()).unwrap();
    let index = Index::open(merged.bytes).unwrap();
    index.validate().unwrap();
    let (found, expected) = (model::seen_in(&index), disk.seen());
    let paths = found.keys().chain(expected.keys());
    for path in paths {
        let text = path.escape_ascii();
        prop_assert_eq!(found.get(path), expected.get(path), "at {}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_layers_merge_as_they_unpack(layers in model::random::layers()) {
        compare(&without_impossible_links(layers))?;
    }
}

#[test]
fn no_layers_make_an_empty_root() {
    let merged = merge(&[], &Limits::default()).unwrap();
    let index = Index::open(merged.bytes).unwrap();
    index.validate().unwrap();
    assert_eq!(index.inode_count(), 1);
}

fn merged(layers: &[&Tree]) -> (Index, Vec<MergeWarning>) {
    let layers: Vec<Index> = layers.iter().map(|tree| model::layer(tree)).collect();
    let merged = merge(&layers, &Limits::default()).unwrap();
    let index = Index::open(merged.bytes).unwrap();
    index.validate().unwrap();
    (index, merged.warnings)
}

#[test]
fn a_link_to_nowhere_is_dropped_and_reported() {
    let mut lower = Tree::new();
    lower.insert(b"link", file(1)).unwrap();
    lower.insert(b"directory", directory()).unwrap();
    let mut upper = Tree::new();
    upper.hardlink(b"link", b"nowhere").unwrap();
    upper.hardlink(b"deep/other", b"directory").unwrap();
    let (index, mut warnings) = merged(&[&lower, &upper]);
    assert_eq!(index.resolve(b"link").unwrap(), None);
    assert_eq!(index.resolve(b"deep/other").unwrap(), None);
    warnings.sort_by_key(|warning| warning.to_string());
    let unresolved = |path: &[u8], target: &[u8]| MergeWarning::UnresolvedLink {
        layer: 1,
        path: path.to_vec(),
        target: target.to_vec(),
    };
    let expected = [
        unresolved(b"deep/other", b"directory"),
        unresolved(b"link", b"nowhere"),
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn a_link_into_a_lower_layer_shares_its_inode_and_stream() {
    let mut lower = Tree::new();
    lower.insert(b"file", file(7)).unwrap();
    let mut upper = Tree::new();
    upper.hardlink(b"link", b"file").unwrap();
    let (index, warnings) = merged(&[&lower, &upper]);
    let link = index.resolve(b"link").unwrap().unwrap();
    assert_eq!(index.resolve(b"file").unwrap(), Some(link));
    let inode = index.inode(link).unwrap();
    assert_eq!((inode.nlink, inode.layer), (2, 0));
    assert_eq!(warnings, []);
}

#[test]
fn replacing_one_name_of_a_file_leaves_the_other_with_one_link_less() {
    let mut lower = Tree::new();
    lower.insert(b"one", file(1)).unwrap();
    lower.hardlink(b"two", b"one").unwrap();
    let mut upper = Tree::new();
    upper.insert(b"one", file(2)).unwrap();
    let (index, _) = merged(&[&lower, &upper]);
    let inode = |path: &[u8]| index.inode(index.resolve(path).unwrap().unwrap()).unwrap();
    assert_eq!((inode(b"one").nlink, inode(b"one").layer), (1, 1));
    assert_eq!((inode(b"two").nlink, inode(b"two").layer), (1, 0));
}

#[test]
fn a_file_in_the_way_of_a_directory_without_an_entry_is_replaced_and_reported() {
    let mut lower = Tree::new();
    lower.insert(b"path", file(1)).unwrap();
    let mut upper = Tree::new();
    upper.insert(b"path/file", file(2)).unwrap();
    let (index, warnings) = merged(&[&lower, &upper]);
    assert!(index.resolve(b"path/file").unwrap().is_some());
    let path = b"path".to_vec();
    assert_eq!(
        warnings,
        [MergeWarning::ReplacedByDirectory { layer: 1, path }]
    );
}

#[test]
fn the_layers_of_a_merge_are_listed_and_their_limits_hold() {
    let mut tree = Tree::new();
    tree.insert(b"file", file(1)).unwrap();
    let layer = model::layer(&tree);
    let (index, _) = merged(&[&tree, &tree]);
    let layers = index.layers().unwrap();
    assert_eq!(layers.len(), 2);
    assert_eq!(layers[1].index_digest, layer.digest());
    assert_eq!(layers[1].stream_size, layer.stream_size());
    assert_eq!(index.chunk_count(), 0);
    assert_eq!(index.inode(InodeNumber(2)).unwrap().layer, 1);

    let limits = Limits {
        hot_size: 1000,
        ..Limits::default()
    };
    let refused = merge(std::slice::from_ref(&layer), &limits);
    assert!(
        matches!(refused, Err(MergeError::TooLarge { limit: 1000, .. })),
        "{refused:?}"
    );
    let refused = merge(&[layer, index], &Limits::default());
    assert_eq!(refused, Err(MergeError::NotALayer { layer: 1 }));
}

#[test]
fn the_same_layers_give_the_same_bytes() {
    let tree = crate::fixture::tree();
    let layers = [model::layer(&tree), model::layer(&tree)];
    let first = merge(&layers, &Limits::default()).unwrap();
    assert_eq!(merge(&layers, &Limits::default()).unwrap(), first);
}
