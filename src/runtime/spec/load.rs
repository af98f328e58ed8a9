//! Reading a document of bounded size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};
use crate::spec::Spec;

/// Bytes of the largest `config.json` read: the largest seen in the wild (seccomp profile, a
/// thousand mounts) is well below 1 MiB.
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// The file's bytes, refused beyond a limit.
///
/// # Errors
/// [`Error::Os`] from opening and reading, [`Error::Document`] beyond the limit.
pub fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).doing(|| format!("open {}", path.display()))?;
    let mut bytes = Vec::with_capacity(16 << 10);
    file.take(DOCUMENT_LIMIT + 1)
        .read_to_end(&mut bytes)
        .doing(|| format!("read {}", path.display()))?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(Error::Document {
            path: path.to_owned(),
            reason: format!("larger than {DOCUMENT_LIMIT} bytes"),
        });
    }
    Ok(bytes)
}

/// Parses a document read from `path`.
///
/// # Errors
/// [`Error::Document`] with line and column.
pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Document {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// `config.json` of a bundle: the bytes and what they say.
///
/// # Errors
/// As [`read_limited`] and [`parse`].
pub fn load(bundle: &Path) -> Result<(Vec<u8>, Spec)> {
    let path = bundle.join("config.json");
    let bytes = read_limited(&path)?;
    let spec = parse(&path, &bytes)?;
    Ok((bytes, spec))
}
