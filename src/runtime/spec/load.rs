//! Reading a document of bounded size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

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

/// Parses a document read from `path`. A member that is `null` is as one that is not there.
///
/// # Errors
/// [`Error::Document`] with line and column.
pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    // Documents with the word are rare, and only they are read by way of a tree.
    let parsed = if bytes.windows(4).any(|word| word == b"null") {
        serde_json::from_slice(bytes).and_then(|mut tree| {
            drop_nulls(&mut tree);
            serde_json::from_value(tree)
        })
    } else {
        serde_json::from_slice(bytes)
    };
    parsed.map_err(|error| Error::Document {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Nesting is bounded by the parser that made the tree.
fn drop_nulls(tree: &mut Value) {
    match tree {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_nulls),
        _ => {}
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_as_absent_for_every_kind_of_member() {
        let text = r#"{"ociVersion": "1.2.0", "mounts": null, "annotations": null, "hooks": null,
            "process": {"args": ["null"], "cwd": "/", "env": null, "capabilities": {"bounding": null},
                        "rlimits": null, "user": null, "oomScoreAdj": null},
            "root": {"path": "rootfs", "readonly": null},
            "linux": {"resources": {"devices": null, "memory": {"limit": null}, "unified": null,
                                    "blockIO": {"weightDevice": null}, "hugepageLimits": null},
                      "namespaces": null, "sysctl": null, "seccomp": null, "intelRdt": null,
                      "cgroupsPath": null, "maskedPaths": null}}"#;
        let spec: Spec = parse(Path::new("config.json"), text.as_bytes()).unwrap();
        assert_eq!(spec.process.unwrap().args, ["null"]);
        let linux = spec.linux.unwrap();
        assert!(linux.masked_paths.is_empty() && linux.seccomp.is_none());
        assert!(linux.resources.memory.unwrap().limit.is_none());
    }

    #[test]
    fn what_is_no_document_is_an_error_that_names_it() {
        for text in [
            "null",
            "{\"process\": {\"args\": [null]}}",
            "{",
            "{\"linux\": 1}",
        ] {
            let outcome: Result<Spec> = parse(Path::new("config.json"), text.as_bytes());
            let words = outcome.unwrap_err().to_string();
            assert!(words.starts_with("config.json: "), "{words}");
        }
    }
}
