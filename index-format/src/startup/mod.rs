//! What a workload touches when it starts: the start-up set of an image and a command, and the
//! pack that carries its content. FORMAT.md sections 8 and 9.

pub mod error;
pub mod pack;
pub mod set;

mod cursor;

use std::ops::Range;

pub use self::error::StartupError;
pub use self::pack::{PackFrame, PackTable};
pub use self::set::{StartupSet, TouchedLeaf};

/// Leaves of one start-up set or pack: 16 GiB of content, more than any program reads before it
/// is ready; bounds what a hostile file makes a reader hold.
pub const MAX_LEAVES: usize = 1 << 18;

/// A run of neighbouring leaves of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRun {
    /// Position of the layer in the list of layer digests beside the runs.
    pub layer: u32,
    /// The leaves, never none.
    pub leaves: Range<u64>,
}

impl LeafRun {
    /// How many leaves it has.
    pub fn count(&self) -> u64 {
        self.leaves.end - self.leaves.start
    }
}

/// Puts leaves into runs, keeping their order.
pub fn runs(leaves: impl IntoIterator<Item = (u32, u64)>) -> Vec<LeafRun> {
    let mut runs: Vec<LeafRun> = Vec::new();
    for (layer, leaf) in leaves {
        match runs.last_mut() {
            Some(run) if run.layer == layer && run.leaves.end == leaf => run.leaves.end += 1,
            _ => runs.push(LeafRun {
                layer,
                leaves: leaf..leaf + 1,
            }),
        }
    }
    runs
}
