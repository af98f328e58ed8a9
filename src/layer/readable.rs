//! A layer that can be read.

use std::sync::{Arc, MutexGuard, OnceLock, PoisonError, Weak};

use index_format::{Digest, Index, LEAF_SIZE};
use tokio::sync::{Mutex, OnceCell};

use brisk_blob::Blob;
use brisk_cache::LayerFile;

use super::checkpoints::Checkpoints;
use super::closing::ClosingState;
use super::flight::Flights;
use super::ledger::Ledger;
use super::pack::Expected;
use super::sequence::Sequence;
use super::stream::Passages;
use super::warmth::Warmth;
use super::{
    CheckpointError, CheckpointSource, Closing, Counters, FetchGate, LayerOwner, Policy, ReadError,
    Resources, Scratch,
};

/// What a layer is made of.
pub struct LayerParts {
    /// The layer's index; its hot part suffices.
    pub index: Index,
    /// Where the checkpoints come from.
    pub checkpoints: Arc<dyn CheckpointSource>,
    /// The local copy.
    pub file: Arc<LayerFile>,
    /// The compressed layer.
    pub blob: Arc<dyn Blob>,
    /// The gate of the host that serves the blob.
    pub gate: Arc<FetchGate>,
    /// What the service's layers share.
    pub resources: Arc<Resources>,
    /// How to read.
    pub policy: Policy,
    /// The layer's diff ID as the image's config says: what closing compares with.
    pub diff_id: Digest,
    /// Whether the layer was closed before: `Unclosed` unless the owner knows better.
    pub closing: Closing,
    /// Compares, and hears when closing is decided.
    pub owner: Box<dyn LayerOwner>,
}

/// One layer: reads of its stream are answered from the cache, or fetched, verified and kept.
#[derive(Debug)]
pub struct Layer {
    /// For the tasks that fetch.
    me: Weak<Layer>,
    id: u64,
    index: Index,
    checkpoint_source: Arc<dyn CheckpointSource>,
    checkpoints: OnceCell<Arc<Checkpoints>>,
    /// Why there are no checkpoints and will be none.
    lost_checkpoints: OnceLock<Arc<CheckpointError>>,
    file: Arc<LayerFile>,
    blob: Arc<dyn Blob>,
    gate: Arc<FetchGate>,
    resources: Arc<Resources>,
    policy: Policy,
    diff_id: Digest,
    closing: ClosingState,
    flights: Arc<Flights>,
    sequence: Sequence,
    warmth: Warmth,
    ledger: Ledger,
    passages: Mutex<Passages>,
    expected: std::sync::Mutex<Option<Arc<Expected>>>,
}

impl Layer {
    /// Puts a layer together. Fetches nothing.
    ///
    /// # Errors
    /// `OutOfRange` when the local copy or the blob has another size than the index says.
    pub fn new(parts: LayerParts) -> Result<Arc<Layer>, ReadError> {
        let (size, copy) = (parts.index.stream_size(), parts.file.stream_size());
        let layer = parts.index.layer_digest();
        if size != copy {
            return Err(ReadError::OutOfRange {
                layer,
                range: 0..copy,
                size,
            });
        }
        let (size, blob) = (parts.index.compressed_size(), parts.blob.size());
        if size != blob {
            return Err(ReadError::OutOfRange {
                layer,
                range: 0..blob,
                size,
            });
        }
        let ledger = Ledger::new(parts.index.chunk_count());
        Ok(Arc::new_cyclic(|me| Layer {
            me: me.clone(),
            id: parts.resources.next_number(),
            index: parts.index,
            checkpoint_source: parts.checkpoints,
            checkpoints: OnceCell::new(),
            lost_checkpoints: OnceLock::new(),
            file: parts.file,
            blob: parts.blob,
            gate: parts.gate,
            resources: parts.resources,
            policy: parts.policy,
            diff_id: parts.diff_id,
            closing: ClosingState::new(parts.closing, parts.owner),
            flights: Arc::default(),
            sequence: Sequence::default(),
            warmth: Warmth::default(),
            ledger,
            passages: Mutex::default(),
            expected: std::sync::Mutex::default(),
        }))
    }

    /// Digest of the compressed layer.
    pub fn digest(&self) -> Digest {
        self.index.layer_digest()
    }

    /// The layer's index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Leaves of its stream.
    pub fn leaf_count(&self) -> u64 {
        self.index.stream_size().div_ceil(LEAF_SIZE)
    }

    /// The local copy.
    pub fn file(&self) -> &Arc<LayerFile> {
        &self.file
    }

    /// The host's gate.
    pub fn gate(&self) -> &Arc<FetchGate> {
        &self.gate
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn blob(&self) -> &dyn Blob {
        &*self.blob
    }

    pub(super) fn resources(&self) -> &Resources {
        &self.resources
    }

    pub(super) fn scratch(&self) -> &Scratch {
        &self.resources.scratch
    }

    pub(super) fn counters(&self) -> &Counters {
        self.resources.counters()
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    pub(super) fn checkpoint_source(&self) -> &dyn CheckpointSource {
        &*self.checkpoint_source
    }

    pub(super) fn loaded_checkpoints(&self) -> &OnceCell<Arc<Checkpoints>> {
        &self.checkpoints
    }

    pub(super) fn lost_checkpoints(&self) -> &OnceLock<Arc<CheckpointError>> {
        &self.lost_checkpoints
    }

    pub(super) fn passages(&self) -> &Mutex<Passages> {
        &self.passages
    }

    pub(super) fn closing_state(&self) -> &ClosingState {
        &self.closing
    }

    pub(super) fn expected_diff_id(&self) -> Digest {
        self.diff_id
    }

    /// What a pack is about to bring.
    pub(super) fn expected_slot(&self) -> MutexGuard<'_, Option<Arc<Expected>>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This layer, for a task.
    pub(super) fn shared(&self) -> Result<Arc<Layer>, ReadError> {
        self.me.upgrade().ok_or(ReadError::Stopping {
            layer: self.digest(),
        })
    }

    pub(super) fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn warmth(&self) -> &Warmth {
        &self.warmth
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        self.resources.scratch.forget_layer(self.id);
        // Closing the local copy flushes it to the disk: not on a thread that runs tasks.
        if tokio::runtime::Handle::try_current().is_ok() {
            let file = self.file.clone();
            self.resources.runtime.spawn_blocking(move || drop(file));
        }
    }
}
