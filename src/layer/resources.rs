//! What all layers of a service share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::memory::Memory;
use super::passing::PassedLayers;
use super::{Counters, Scratch};

/// Shared by all layers of a service: where tasks run, memory for what the disk cannot hold,
/// counters.
#[derive(Debug)]
pub struct Resources {
    pub(super) runtime: Handle,
    pub(super) scratch: Scratch,
    /// For chunks on their way.
    pub(super) memory: Memory,
    /// Permits for decoding that nobody waits for: one processor stays free for readers where
    /// there are several.
    pub(super) idle_decoders: Semaphore,
    /// Layers whose bytes have all passed without being kept.
    pub(super) passed: PassedLayers,
    counters: Counters,
    next_number: AtomicU64,
}

impl Resources {
    /// Resources for layers that fetch and decode on this runtime.
    pub fn new(runtime: Handle) -> Arc<Resources> {
        Resources::with_memory(runtime, Memory::default())
    }

    pub(super) fn with_memory(runtime: Handle, memory: Memory) -> Arc<Resources> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Resources {
            runtime,
            scratch: Scratch::default(),
            memory,
            idle_decoders: Semaphore::new(processors.saturating_sub(1).max(1)),
            passed: PassedLayers::default(),
            counters: Counters::default(),
            next_number: AtomicU64::new(0),
        })
    }

    /// Where the layers' tasks run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The counters of all layers together.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A number that tells the layers, and the images, of this process apart.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}
