//! Merging layers gives what unpacking them one after the other gives.

mod model;

use crate::model::{Disk, Operation};
use index_format::{Index, Limits, NodeContent, merge};
use proptest::prelude::*;

/// Leaves out hardlinks whose target is a directory or nowhere when their turn comes: unpacking
/// would end there.
fn without_impossible_links(layers: Vec<Vec<Operation>>) -> Vec<Vec<Operation>> {
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

fn compare(layers: &[Vec<Operation>]) -> Result<(), TestCaseError> {
    let mut disk = Disk::new();
    let mut indexes = Vec::new();
    for (operations, number) in layers.iter().zip(0..) {
        disk.unpack(number, operations);
        indexes.push(model::layer(&model::tree(operations)));
    }
    let merged = merge(&indexes, &Limits::default()).unwrap();
    let index = Index::open(merged.bytes).unwrap();
    index.validate().unwrap();
    prop_assert_eq!(model::seen_in(&index), disk.seen());
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
    let _ = NodeContent::Fifo;
}
