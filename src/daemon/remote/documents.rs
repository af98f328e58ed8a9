//! What is kept of the images that remote snapshots have a place in: enough to mount them again
//! without the network.
//!
//! ```text
//! snapshotter/images/NAME.json     NAME: digest of the labels, and of whom its indexes suit
//! ```

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use index_format::Digest;
use serde::{Deserialize, Serialize};

use crate::daemon::control::Failure;
use crate::daemon::mounted::ImageMount;
use crate::daemon::query::failure;
use brisk_snapshotter::remote::{ImageLabels, RemoteImage};

/// Extension of the files.
const EXTENSION: &str = "json";

/// One image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// What was asked for; the manifest is always there.
    pub labels: ImageLabels,
    /// Every index in it is trusted by everyone.
    #[serde(default)]
    pub is_guarded: bool,
    /// Diff IDs of all layers of the image.
    pub diff_ids: Vec<String>,
    /// Its lowest layers, those that can be served, with the indexes that were decided for.
    pub image: ImageMount,
    /// Why the layers above them cannot.
    pub reason: Option<String>,
}

impl Document {
    /// Its name.
    pub fn name(&self) -> String {
        name(&self.labels, self.is_guarded)
    }

    /// What the snapshots need to know of it.
    pub fn remote_image(&self) -> RemoteImage {
        RemoteImage {
            name: self.name(),
            chain_ids: chain_ids(&self.diff_ids),
            served: self.image.layers.len(),
        }
    }
}

/// Names the document of an image that was asked for by these labels.
pub fn name(labels: &ImageLabels, is_guarded: bool) -> String {
    let manifest = labels.manifest.as_deref().unwrap_or_default();
    let guard = if is_guarded { "\nguarded" } else { "" };
    Digest::of(format!("{}\n{manifest}{guard}", labels.reference).as_bytes()).hex()
}

/// The chain IDs of layers with these diff IDs, from the bottom up.
///
/// Source: OCI image specification, config, "Layer ChainID".
fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()).to_string(),
        });
    }
    chain
}

/// The documents below one root.
#[derive(Clone, Debug)]
pub struct Documents {
    directory: PathBuf,
}

impl Documents {
    /// The documents below `root`.
    pub fn new(root: &Path) -> Self {
        Documents {
            directory: root.join("snapshotter").join("images"),
        }
    }

    /// The document of that name, where it is there and can be read.
    pub fn load(&self, name: &str) -> Option<Document> {
        let bytes = fs::read(self.path(name)).ok()?;
        let document: Document = serde_json::from_slice(&bytes).ok()?;
        (document.name() == name).then_some(document)
    }

    /// Every document.
    pub fn list(&self) -> Vec<Document> {
        let names = self.names();
        names.iter().filter_map(|name| self.load(name)).collect()
    }

    /// The names of all documents.
    pub fn names(&self) -> HashSet<String> {
        fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == EXTENSION))
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect()
    }

    /// Keeps a document; it outlives a crash.
    ///
    /// # Errors
    /// Where the disk cannot take it.
    pub fn store(&self, document: &Document) -> Result<(), Failure> {
        let on_io = |error: io::Error| failure(&error, None);
        let bytes = serde_json::to_vec(document).map_err(|e| failure(&e, None))?;
        fs::create_dir_all(&self.directory).map_err(on_io)?;
        brisk_durable::write_file(&self.path(&document.name()), &bytes).map_err(on_io)
    }

    /// Forgets a document.
    pub fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, name, "forgetting an image of containerd's");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name).with_extension(EXTENSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let ids = ["sha256:aa", "sha256:bb", "sha256:cc"].map(str::to_owned);
        let chain = chain_ids(&ids);
        assert_eq!(chain[0], "sha256:aa");
        let second = Digest::of(b"sha256:aa sha256:bb").to_string();
        assert_eq!(chain[1], second);
        let third = Digest::of(format!("{second} sha256:cc").as_bytes());
        assert_eq!(chain[2], third.to_string());
    }

    #[test]
    fn a_name_tells_reference_manifest_and_guard_apart() {
        let labels = |reference: &str, manifest: Option<&str>| ImageLabels {
            reference: reference.to_owned(),
            manifest: manifest.map(str::to_owned),
        };
        let names: HashSet<String> = [
            name(&labels("h/a:1", Some("m")), false),
            name(&labels("h/a:1", Some("m")), true),
            name(&labels("h/a:1", Some("n")), false),
            name(&labels("h/b:1", Some("m")), false),
            name(&labels("h/b:1", None), false),
        ]
        .into();
        assert_eq!(names.len(), 5);
    }
}
