//! OCI image layouts: read from a directory, put into the small registry.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::registry::Registry;

/// An image in a layout directory.
#[derive(Clone, Debug)]
pub struct Layout {
    directory: PathBuf,
    media_type: String,
    manifest: Vec<u8>,
    /// The layers' files from the bottom up, with their compressed sizes.
    pub layers: Vec<(PathBuf, u64)>,
    /// The image's command.
    pub command: Vec<String>,
}

impl Layout {
    /// Reads the first image of a layout.
    ///
    /// # Errors
    /// Where the directory is no layout.
    pub fn open(directory: &Path) -> Result<Self> {
        let index = directory.join("index.json");
        let index = std::fs::read(&index).with_context(|| index.display().to_string())?;
        let index: Value = serde_json::from_slice(&index)?;
        let descriptor = &index["manifests"][0];
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap_or_default();
            directory.join("blobs").join(digest.replace(':', "/"))
        };
        let manifest = std::fs::read(blob(descriptor)).context("no manifest")?;
        let document: Value = serde_json::from_slice(&manifest)?;
        let config: Value = serde_json::from_slice(&std::fs::read(blob(&document["config"]))?)?;
        let words = |name: &str| {
            let list = config["config"][name].as_array().cloned();
            list.unwrap_or_default()
                .iter()
                .filter_map(|w| w.as_str().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let layers = document["layers"].as_array().context("no layers")?;
        Ok(Layout {
            directory: directory.to_owned(),
            media_type: descriptor["mediaType"]
                .as_str()
                .unwrap_or("application/vnd.oci.image.manifest.v1+json")
                .to_owned(),
            layers: layers
                .iter()
                .map(|layer| (blob(layer), layer["size"].as_u64().unwrap_or_default()))
                .collect(),
            command: [words("Entrypoint"), words("Cmd")].concat(),
            manifest,
        })
    }

    /// Compressed size of all layers.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|(_, size)| size).sum()
    }

    /// Puts the image into a registry as `name:latest`.
    ///
    /// # Errors
    /// Where the registry's directory cannot be written.
    pub fn publish(&self, registry: &Registry, name: &str) -> Result<()> {
        let blobs = self.directory.join("blobs/sha256");
        for entry in std::fs::read_dir(&blobs)? {
            let entry = entry?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
            registry.link_blob(&entry.path(), &digest)?;
        }
        registry.put_manifest(name, "latest", &self.media_type, self.manifest.clone());
        Ok(())
    }
}
