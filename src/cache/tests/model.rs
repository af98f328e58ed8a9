//! Random histories of stores, pins, evictions, clean and unclean stops, against a model.
//!
//! The model knows only what must hold whatever eviction chooses: a pinned or freshly pinned
//! leaf reads as its content, never as a hole; the accounts equal what is there; what was lost
//! in a crash is never served.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use index_format::LEAF_SIZE;
use proptest::prelude::*;

use super::{content, crash_copy, key, leaf_length, store};
use crate::{Budget, Cache, LayerFile, Pinned, Priority};

const LAYERS: u8 = 3;
const LEAVES: u64 = 40;
const STREAM_SIZE: u64 = (LEAVES - 1) * LEAF_SIZE + 1234;
const BUDGET: u64 = 50 * LEAF_SIZE;

#[derive(Debug, Clone)]
enum Step {
    Open(u8),
    Close(u8),
    Store {
        layer: u8,
        leaf: u64,
        demand: bool,
    },
    StoreRun {
        layer: u8,
        start: u64,
        count: u64,
    },
    Pin {
        layer: u8,
        start: u64,
        count: u64,
    },
    Unpin(usize),
    Restart,
    /// Unclean: the files as they are; `lost` leaves of each stream read as zeros afterwards.
    Crash {
        lost: Vec<u64>,
    },
    Remove(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let layer = 0..LAYERS;
    let leaf = 0..LEAVES;
    prop_oneof![
        3 => layer.clone().prop_map(Step::Open),
        2 => layer.clone().prop_map(Step::Close),
        6 => (layer.clone(), leaf.clone(), any::<bool>())
            .prop_map(|(layer, leaf, demand)| Step::Store { layer, leaf, demand }),
        5 => (layer.clone(), leaf.clone(), 1..20u64)
            .prop_map(|(layer, start, count)| Step::StoreRun { layer, start, count }),
        5 => (layer.clone(), leaf.clone(), 1..4u64)
            .prop_map(|(layer, start, count)| Step::Pin { layer, start, count }),
        4 => any::<usize>().prop_map(Step::Unpin),
        1 => Just(Step::Restart),
        1 => prop::collection::vec(leaf, 0..6).prop_map(|lost| Step::Crash { lost }),
        1 => layer.prop_map(Step::Remove),
    ]
}

struct World {
    base: tempfile::TempDir,
    root: PathBuf,
    crashes: u32,
    cache: Option<Cache>,
    files: HashMap<u8, Arc<LayerFile>>,
    pins: Vec<(u8, Pinned)>,
}

impl World {
    fn new() -> World {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("0");
        let cache = Some(Cache::open(&root, Budget::Bytes(BUDGET)).unwrap());
        World {
            base,
            root,
            crashes: 0,
            cache,
            files: HashMap::new(),
            pins: Vec::new(),
        }
    }

    fn cache(&self) -> &Cache {
        self.cache.as_ref().unwrap()
    }

    fn stop(&mut self) {
        self.pins.clear();
        self.files.clear();
        self.cache = None;
    }

    fn crash(&mut self, lost: &[u64]) {
        self.crashes += 1;
        let root = self.base.path().join(self.crashes.to_string());
        crash_copy(&self.root, &root);
        self.stop();
        std::fs::remove_dir_all(&self.root).unwrap();
        for layer in 0..LAYERS {
            let path = root.join(key(layer).directory()).join("stream");
            // Marked clean: everything was on the disk before.
            if path.with_file_name("clean").exists() {
                continue;
            }
            let Ok(stream) = File::options().write(true).open(path) else {
                continue;
            };
            for leaf in lost {
                crate::local_stream::punch(&stream, *leaf..leaf + 1).unwrap();
            }
        }
        self.root = root;
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Open(layer) => {
                let file = self.cache().layer(&key(layer), STREAM_SIZE).unwrap();
                self.files.insert(layer, file);
            }
            Step::Close(layer) => drop(self.files.remove(&layer)),
            Step::Store {
                layer,
                leaf,
                demand,
            } => {
                let priority = if demand {
                    Priority::Demand
                } else {
                    Priority::Background
                };
                self.store(layer, leaf..leaf + 1, priority);
            }
            Step::StoreRun {
                layer,
                start,
                count,
            } => {
                self.store(layer, start..(start + count).min(LEAVES), Priority::Demand);
            }
            Step::Pin {
                layer,
                start,
                count,
            } => self.pin(layer, start, count),
            Step::Unpin(at) if !self.pins.is_empty() => {
                let at = at % self.pins.len();
                drop(self.pins.swap_remove(at));
            }
            Step::Unpin(_) => {}
            Step::Restart => {
                self.stop();
                self.cache = Some(Cache::open(&self.root, Budget::Bytes(BUDGET)).unwrap());
            }
            Step::Crash { lost } => {
                self.crash(&lost);
                self.cache = Some(Cache::open(&self.root, Budget::Bytes(BUDGET)).unwrap());
            }
            Step::Remove(layer) => {
                let pinned = self.pins.iter().any(|(pinned, _)| *pinned == layer);
                let open = pinned || self.files.contains_key(&layer);
                let removed = self.cache().remove(&key(layer));
                assert!(!open || removed.is_err_and(|error| error.is_in_use()));
            }
        }
    }

    fn store(&self, layer: u8, leaves: std::ops::Range<u64>, priority: Priority) {
        let Some(file) = self.files.get(&layer) else {
            return;
        };
        for leaf in leaves {
            store(file, layer, leaf, priority);
        }
    }

    fn pin(&mut self, layer: u8, start: u64, count: u64) {
        let Some(file) = self.files.get(&layer) else {
            return;
        };
        let range = start * LEAF_SIZE..((start + count) * LEAF_SIZE).min(STREAM_SIZE);
        for leaf in file.suspects(range.clone()) {
            assert!(file.pin(leaf * LEAF_SIZE..leaf * LEAF_SIZE + 1).is_none());
            let right = content(layer, leaf, leaf_length(STREAM_SIZE, leaf));
            file.confirm(leaf, |bytes| bytes == right);
        }
        if let Some(pinned) = file.pin(range) {
            self.pins.push((layer, pinned));
        }
    }

    fn check(&self) {
        for (layer, pinned) in &self.pins {
            let range = pinned.range();
            for leaf in range.start / LEAF_SIZE..range.end.div_ceil(LEAF_SIZE) {
                let right = content(*layer, leaf, leaf_length(STREAM_SIZE, leaf));
                let mut bytes = vec![0; right.len()];
                pinned.read_at(leaf * LEAF_SIZE, &mut bytes).unwrap();
                assert!(bytes == right, "layer {layer} leaf {leaf} reads wrong");
            }
        }
        let usage = self.cache().usage();
        let present: u64 = self
            .cache()
            .layers()
            .iter()
            .map(|layer| layer.present_bytes)
            .sum();
        assert_eq!(usage.used_bytes, present);
        assert!(usage.used_bytes <= BUDGET);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..Default::default() })]

    #[test]
    fn any_history_keeps_the_promises(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        world.stop();
    }
}
