//! Closing the loop: comparing a complete layer with the diff ID that the image binds, and with
//! what its index says.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use index_format::Digest;

use super::comparison::StreamComparison;
use super::{Layer, LayerOwner, ReadError};

/// Bytes read at a time.
const STEP: u64 = 1 << 20;

/// Whether a layer has been compared with its diff ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Not yet.
    Unclosed,
    /// Its whole stream has the diff ID.
    Closed,
    /// Its stream has another digest: the index describes something else. Reads fail.
    Poisoned,
}

/// Why a layer could not be closed now.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// Some leaves are missing, or were evicted meanwhile.
    #[error("layer {layer} is not complete")]
    Incomplete {
        /// The layer.
        layer: Digest,
    },
    /// The stream is not the tar, so no diff ID can be computed from it.
    #[error("the index of layer {layer} has the layout of a table of contents")]
    NotATar {
        /// The layer.
        layer: Digest,
    },
    /// The local copy could not be read.
    #[error("cannot read the local copy of layer {layer}")]
    Disk {
        /// The layer.
        layer: Digest,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The stream is no tar that the index could be compared with.
    #[error("the index of layer {layer} cannot be compared with it: {reason}")]
    NotComparable {
        /// The layer.
        layer: Digest,
        /// Why.
        reason: String,
    },
    /// What arrives is not the layer, however often it is fetched.
    #[error("what arrives of layer {layer} has another digest")]
    Corrupt {
        /// The layer.
        layer: Digest,
    },
    /// The service is stopping.
    #[error("the comparison of layer {layer} was stopped")]
    Stopping {
        /// The layer.
        layer: Digest,
    },
}

/// The state, and the owner that hears of its change.
pub(super) struct ClosingState {
    state: AtomicU8,
    /// Only one thread closes; the others wait and see its result.
    closing: Mutex<()>,
    /// Only one pass at a time.
    passing: tokio::sync::Mutex<()>,
    owner: Box<dyn LayerOwner>,
}

impl std::fmt::Debug for ClosingState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ClosingState").field(&self.get()).finish()
    }
}

impl ClosingState {
    pub(super) fn new(initial: Closing, owner: Box<dyn LayerOwner>) -> ClosingState {
        let state = AtomicU8::new(initial as u8);
        ClosingState {
            state,
            closing: Mutex::default(),
            passing: tokio::sync::Mutex::default(),
            owner,
        }
    }

    pub(super) fn owner(&self) -> &dyn LayerOwner {
        &*self.owner
    }

    pub(super) fn passing(&self) -> &tokio::sync::Mutex<()> {
        &self.passing
    }

    pub(super) fn get(&self) -> Closing {
        match self.state.load(Ordering::Acquire) {
            state if state == Closing::Closed as u8 => Closing::Closed,
            state if state == Closing::Poisoned as u8 => Closing::Poisoned,
            _ => Closing::Unclosed,
        }
    }
}

impl Layer {
    /// Whether the layer has been compared with its diff ID.
    pub fn closing(&self) -> Closing {
        self.closing_state().get()
    }

    /// Reads of a poisoned layer fail.
    pub(super) fn check_state(&self) -> Result<(), ReadError> {
        match self.closing() {
            Closing::Unclosed | Closing::Closed => Ok(()),
            Closing::Poisoned => Err(ReadError::Poisoned {
                layer: self.digest(),
            }),
        }
    }

    /// Declares the index wrong, for instance because its tree differs from the tar.
    pub fn poison(&self) {
        self.decide(Closing::Poisoned);
    }

    /// Reads the whole local copy and compares it with the diff ID and the index. Blocks for as long as that
    /// takes; does nothing when the state is decided already.
    ///
    /// # Errors
    /// When the copy is not complete or cannot be read: the layer is unclosed as before.
    pub fn close(&self) -> Result<Closing, CloseError> {
        let state = self.closing_state();
        let _one_at_a_time = state.closing.lock().unwrap_or_else(PoisonError::into_inner);
        if state.get() != Closing::Unclosed {
            return Ok(state.get());
        }
        let layer = self.digest();
        if self.index().features().is_toc_layout() {
            return Err(CloseError::NotATar { layer });
        }
        let found = self.compare_local()?;
        self.decide(found);
        Ok(state.get())
    }

    /// Carries out what a comparison has found, unless it is decided already. Blocks.
    pub(super) fn settle(&self, found: Closing) -> Closing {
        let state = self.closing_state();
        let _one_at_a_time = state.closing.lock().unwrap_or_else(PoisonError::into_inner);
        if state.get() == Closing::Unclosed {
            self.decide(found);
        }
        state.get()
    }

    /// The owner's stores change first: whoever sees a layer poisoned can rely on its index not
    /// being offered again, and one is called closed only when its owner has found no fault.
    fn decide(&self, closing: Closing) {
        let state = self.closing_state();
        if state.get() == closing {
            return;
        }
        state.owner.decided(self, closing);
        match closing {
            Closing::Poisoned => state.state.store(closing as u8, Ordering::Release),
            // It may have been poisoned meanwhile.
            Closing::Closed | Closing::Unclosed => {
                let unclosed = Closing::Unclosed as u8;
                let order = (Ordering::AcqRel, Ordering::Acquire);
                let _ = state
                    .state
                    .compare_exchange(unclosed, closing as u8, order.0, order.1);
            }
        }
    }

    /// Compares the complete local stream.
    fn compare_local(&self) -> Result<Closing, CloseError> {
        let size = self.index().stream_size();
        let mut comparison = StreamComparison::start(self);
        let mut buffer = vec![0; STEP.min(size) as usize];
        let mut at = 0;
        while at < size {
            let end = (at + STEP).min(size);
            self.confirm_suspects(at..end);
            let pinned = self.file().pin(at..end);
            let pinned = pinned.ok_or(CloseError::Incomplete {
                layer: self.digest(),
            })?;
            let bytes = &mut buffer[..(end - at) as usize];
            let read = pinned.read_at(at, bytes);
            read.map_err(|source| CloseError::Disk {
                layer: self.digest(),
                source,
            })?;
            comparison.push(bytes);
            pinned.drop_pages();
            at = end;
        }
        comparison.finish(self.digest())
    }
}
