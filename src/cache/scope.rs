//! Whose leaves they are: names of layers in the cache.

use std::fmt;
use std::path::{Path, PathBuf};

use index_format::Digest;

/// Directory of the layers whose leaves anyone may read.
const TRUSTED: &str = "trusted";
/// Directory of the layers whose leaves were verified by an untrusted index.
const UNTRUSTED: &str = "untrusted";

/// Who may read a layer's leaves. A leaf is as trustworthy as the index that verified it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Verified by a trusted index or by the layer's own digest.
    Trusted,
    /// Verified by an index that is accepted for one repository only.
    Untrusted {
        /// The repository, as `host/name`.
        repository: String,
        /// Identity of the index.
        index: Digest,
    },
}

/// One layer's place in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayerKey {
    /// Who may read it.
    pub scope: Scope,
    /// Digest of the compressed layer.
    pub layer: Digest,
}

impl LayerKey {
    /// The layer as verified by a trusted index.
    pub fn trusted(layer: Digest) -> LayerKey {
        LayerKey {
            scope: Scope::Trusted,
            layer,
        }
    }

    /// The layer's directory below the cache's root. A repository's name can be longer than a
    /// file name, so it enters as a digest, together with the index's.
    pub(super) fn directory(&self) -> PathBuf {
        let scope = match &self.scope {
            Scope::Trusted => PathBuf::from(TRUSTED),
            Scope::Untrusted { repository, index } => {
                let owner = Digest::of(format!("{repository}\n{index}").as_bytes());
                Path::new(UNTRUSTED).join(owner.hex())
            }
        };
        scope.join(self.layer.hex())
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Trusted => write!(f, "{}", self.layer),
            Scope::Untrusted { repository, index } => {
                write!(f, "{} (of {repository}, by index {index})", self.layer)
            }
        }
    }
}

/// Every directory below `root` that has the place of a layer's, relative to `root`.
pub(super) fn layer_directories(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let trusted = Path::new(TRUSTED);
    for layer in subdirectories(&root.join(trusted))? {
        found.push(trusted.join(layer));
    }
    let untrusted = Path::new(UNTRUSTED);
    for scope in subdirectories(&root.join(untrusted))? {
        for layer in subdirectories(&root.join(untrusted).join(&scope))? {
            found.push(untrusted.join(&scope).join(layer));
        }
    }
    found.sort();
    Ok(found)
}

/// The layer digest that a layer's directory is named after, and whether it is a trusted one.
pub(super) fn describe(directory: &Path) -> Option<(Digest, bool)> {
    let name = directory.file_name()?.to_str()?;
    let layer = format!("sha256:{name}").parse().ok()?;
    Some((layer, directory.starts_with(TRUSTED)))
}

fn subdirectories(directory: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{LayerKey, Scope, describe};
    use index_format::Digest;

    #[test]
    fn scopes_do_not_share_directories() {
        let layer = Digest::of(b"layer");
        let untrusted = |repository: &str, index: &[u8]| LayerKey {
            scope: Scope::Untrusted {
                repository: repository.into(),
                index: Digest::of(index),
            },
            layer,
        };
        let keys = [
            LayerKey::trusted(layer),
            untrusted("a/b", b"1"),
            untrusted("a/b", b"2"),
            untrusted("a/c", b"1"),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert_eq!(describe(&one.directory()), Some((layer, i == 0)));
            assert!(
                keys[..i]
                    .iter()
                    .all(|other| other.directory() != one.directory())
            );
        }
    }
}
