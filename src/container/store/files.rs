//! The store's own files: small, replaced as a whole, readable by their owner alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use brisk_durable::Durability;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ContainerError;

/// Bytes of one of our own files: options with a large environment fit many times.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Replaces a file, readable by its owner alone: it may hold a container's environment.
///
/// # Errors
/// The failing file operation.
pub fn replace(path: &Path, content: &[u8], durability: Durability) -> Result<(), ContainerError> {
    brisk_durable::replace(path, content, durability, 0o600)
        .map_err(ContainerError::file("write", path))
}

/// The JSON value in a file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ContainerError> {
    let failed = || ContainerError::file("read", path);
    let file = File::open(path).map_err(failed())?;
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES)
        .read_to_end(&mut content)
        .map_err(failed())?;
    serde_json::from_slice(&content).map_err(|error| ContainerError::Damaged {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

/// Replaces a file by a value as JSON, readable by its owner alone.
pub(super) fn write_json<T: Serialize>(
    path: &Path,
    value: &T,
    durability: Durability,
) -> Result<(), ContainerError> {
    let content = serde_json::to_vec_pretty(value)
        .map_err(|error| ContainerError::file("encode", path)(io::Error::other(error)))?;
    replace(path, &content, durability)
}
