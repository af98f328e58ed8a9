//! Recording of first touches.

use std::collections::HashSet;
use std::sync::Arc;

use fuse::{Content, Piece};
use index_format::{LEAF_SIZE, StreamOffset};

use super::{Dice, World, gzip};
use crate::{ImageContent, Recorder};

fn piece(layer: u32, offset: u64, length: u64) -> Piece {
    Piece::Stream {
        layer,
        offset: StreamOffset(offset),
        length,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_the_mounted_tree_are_recorded_once_and_in_order() {
    let world = World::new(gzip(1_500_000));
    let layers = vec![world.layer.clone(), world.layer.clone()];
    let content = ImageContent::new(layers, world.resources.clone());
    let recorder = content.recorder().clone();
    let read = |pieces| content.read(pieces, Box::new(|_| {}));
    read(vec![piece(0, 0, 10)]);
    recorder.start();
    read(vec![
        piece(1, 3 * LEAF_SIZE - 1, 2),
        Piece::Zeros { length: 9 },
    ]);
    read(vec![piece(0, 5 * LEAF_SIZE, 5), piece(1, 2 * LEAF_SIZE, 1)]);
    read(vec![piece(1, u64::MAX - 1, 5), piece(7, 0, 5)]);
    read(vec![piece(1, 0, LEAF_SIZE + 1)]);
    let touched = recorder.finish();
    assert_eq!(touched, [(1, 2), (1, 3), (0, 5), (1, 0), (1, 1)]);
    read(vec![piece(0, 9 * LEAF_SIZE, 5)]);
    assert!(recorder.finish().is_empty() && !recorder.is_recording());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_threads_record_every_leaf_once_and_each_ones_order() {
    let world = World::new(gzip(4_000_000));
    let recorder = Recorder::new(std::slice::from_ref(&world.layer));
    let count = world.size().div_ceil(LEAF_SIZE);
    recorder.start();
    // Each thread has leaves of its own in an order of its own, and all touch all others' too.
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let recorder: &Arc<Recorder> = &recorder;
            scope.spawn(move || {
                for leaf in (0..count).rev().filter(|leaf| leaf % 8 == thread) {
                    recorder.touch(&[piece(0, leaf * LEAF_SIZE, 1)]);
                }
                let mut dice = Dice(thread);
                for _ in 0..10_000 {
                    recorder.touch(&[piece(0, dice.below(count) * LEAF_SIZE, 1)]);
                }
            });
        }
    });
    let touched = recorder.finish();
    let distinct: HashSet<_> = touched.iter().copied().collect();
    assert_eq!(
        (touched.len() as u64, distinct.len() as u64),
        (count, count)
    );
}
