//! What is held against an index while its layer's stream passes.

use index_format::{Digest, Index};
use sha2::{Digest as _, Sha256};

use super::{CloseError, Closing, Layer};

/// The owner of a layer that is not closed yet.
pub trait LayerOwner: Send + Sync {
    /// Starts comparing what `index` says of the files with the stream.
    ///
    /// # Errors
    /// In words, where that is not possible; the layer stays unclosed.
    fn compare(&self, index: &Index) -> Result<Box<dyn Comparison>, String>;

    /// Called when the layer's state is decided, before anybody sees it: the owner promotes what
    /// the index verified, or discards it. Runs on a blocking thread.
    fn decided(&self, layer: &Layer, closing: Closing);
}

/// Follows a layer's stream from its start.
pub trait Comparison: Send {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// In words, where nothing can be compared with such a stream: it is no acceptable tar. No
    /// further call is made.
    fn push(&mut self, stream: &[u8]) -> Result<(), String>;

    /// The stream has ended: whether the index tells the truth about it.
    ///
    /// # Errors
    /// In words, where that cannot be said.
    fn finish(self: Box<Self>) -> Result<bool, String>;
}

/// The whole of it: the diff ID that the image binds, and the owner's comparison.
pub(super) struct StreamComparison {
    expected: Digest,
    stream: Sha256,
    owner: Result<Box<dyn Comparison>, String>,
}

impl StreamComparison {
    pub(super) fn start(layer: &Layer) -> StreamComparison {
        StreamComparison {
            expected: layer.expected_diff_id(),
            stream: Sha256::new(),
            owner: layer.closing_state().owner().compare(layer.index()),
        }
    }

    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, stream: &[u8]) {
        self.stream.update(stream);
        if let Ok(comparison) = &mut self.owner
            && let Err(reason) = comparison.push(stream)
        {
            self.owner = Err(reason);
        }
    }

    /// What has been found; a stream with another diff ID contradicts the index in any case.
    pub(super) fn finish(self, layer: Digest) -> Result<Closing, CloseError> {
        let found = Digest::from_bytes(self.stream.finalize().into());
        if found != self.expected {
            let expected = self.expected;
            tracing::error!(%layer, %expected, %found, "the layer is not what its index says");
            return Ok(Closing::Poisoned);
        }
        let agrees = self.owner.and_then(Comparison::finish);
        match agrees.map_err(|reason| CloseError::NotComparable { layer, reason })? {
            true => Ok(Closing::Closed),
            false => Ok(Closing::Poisoned),
        }
    }
}
