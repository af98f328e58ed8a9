//! Readers, writers and the evictor at once: no reader ever sees a hole.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{content, layer, open, read, store};
use crate::Priority;
use index_format::LEAF_SIZE;

const LEAVES: u64 = 48;
const ROUNDS: u64 = 1500;

#[test]
fn concurrent_eviction_is_never_seen() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path(), 20);
    let files = [layer(&cache, 1, LEAVES), layer(&cache, 2, LEAVES)];
    let right: Vec<Vec<Vec<u8>>> = [1, 2]
        .map(|name| {
            (0..LEAVES)
                .map(|leaf| content(name, leaf, LEAF_SIZE))
                .collect()
        })
        .into();
    let hits = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (files, right, hits) = (&files, &right, &hits);
            scope.spawn(move || {
                let mut state = thread + 1;
                for _ in 0..ROUNDS {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let (which, leaf) = ((state >> 33) as usize % 2, (state >> 40) % LEAVES);
                    match read(&files[which], leaf) {
                        Some(bytes) => {
                            assert!(bytes == right[which][leaf as usize], "leaf {leaf}");
                            hits.fetch_add(1, Ordering::Relaxed);
                        }
                        None => {
                            store(&files[which], which as u8 + 1, leaf, Priority::Demand);
                        }
                    }
                }
            });
        }
    });
    assert!(hits.into_inner() > 100);
    let present: u64 = files.iter().map(|file| file.present_bytes()).sum();
    assert_eq!(cache.usage().used_bytes, present);
    assert!(present <= 20 * LEAF_SIZE);
}
