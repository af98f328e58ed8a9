//! Errors of the cache.

use std::io;
use std::path::{Path, PathBuf};

use super::LayerKey;

/// Why the cache could not be opened or changed. A write that merely finds no room is no
/// error: see [`NotKept`](super::NotKept).
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another process uses this cache.
    #[error("the cache {path} is in use by another process")]
    Locked {
        /// The cache's root.
        path: PathBuf,
    },
    /// The layer has open handles.
    #[error("the layer {key} is in use")]
    InUse {
        /// The layer.
        key: LayerKey,
    },
    /// The layer is not in the cache.
    #[error("the layer {key} is not in the cache")]
    Unknown {
        /// The layer.
        key: LayerKey,
    },
    /// The layer's stream is larger than the cache accepts.
    #[error("the layer {key} has a stream of {size} bytes, more than the limit {limit}")]
    TooLarge {
        /// The layer.
        key: LayerKey,
        /// Its stream size in bytes.
        size: u64,
        /// The largest size accepted.
        limit: u64,
    },
    /// The layer is open with another stream size.
    #[error("the layer {key} is open with {open} bytes, not {asked}")]
    SizeDiffers {
        /// The layer.
        key: LayerKey,
        /// Stream size of the open copy.
        open: u64,
        /// Stream size asked for.
        asked: u64,
    },
    /// A leaf's bytes do not have the leaf's length.
    #[error("leaf {leaf} of layer {key} has {found} bytes instead of {expected}")]
    LeafLength {
        /// The layer.
        key: LayerKey,
        /// The leaf's number.
        leaf: u64,
        /// Its length.
        expected: u64,
        /// Length of the bytes given.
        found: u64,
    },
}

impl CacheError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
        let path = path.to_path_buf();
        move |source| CacheError::Io {
            action,
            path,
            source,
        }
    }

    /// The layer has open handles and cannot be removed now.
    pub fn is_in_use(&self) -> bool {
        matches!(self, CacheError::InUse { .. })
    }

    /// The layer is not in the cache.
    pub fn is_unknown(&self) -> bool {
        matches!(self, CacheError::Unknown { .. })
    }

    /// Another process holds the cache.
    pub fn is_locked(&self) -> bool {
        matches!(self, CacheError::Locked { .. })
    }
}
