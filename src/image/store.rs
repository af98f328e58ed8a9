//! The images that a root knows: what a reference meant when it was last resolved.
//!
//! ```text
//! images/KEY.json          KEY: digest of reference and platform
//! blobs/sha256/HEX         manifests and configs, verified
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use index_format::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{ImageError, on_file};
use crate::pack::PackPlace;
use crate::sign::PublicKey;
use crate::trust::{Policy, Source};
use brisk_cache::{LayerKey, Scope};

/// Where a layer's index came from and who may use it, as it was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDecision {
    /// Digest of the compressed layer.
    pub layer: String,
    /// Where the index came from.
    pub source: Source,
    /// Repository scope of an index that was not trusted when it was accepted.
    pub repository: Option<String>,
    /// Identity of the index.
    pub index: String,
    /// The key that has signed the index for this image, where a believed one has.
    #[serde(default)]
    pub signed_by: Option<String>,
    /// Why the layer is not lazy, or what was refused on the way to its index.
    pub reason: Option<String>,
    /// Where the artifact lies that the cold sections of a referrer index come from.
    pub artifact: Option<ArtifactPlace>,
}

/// A blob with cold sections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactPlace {
    /// Digest of the blob.
    pub blob: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its repository, where that is not the image's.
    #[serde(default)]
    pub repository: Option<String>,
    /// First byte and length of the checkpoint section's network form.
    pub checkpoints: Option<(u64, u64)>,
}

impl LayerDecision {
    /// Whether somebody vouches for the index beyond the right to push to the repository: the
    /// image's digest, or one of these keys.
    pub fn is_vouched_for(&self, keys: &[PublicKey]) -> bool {
        let is_signed = |name: &String| keys.iter().any(|key| key.id() == *name);
        self.source == Source::Bound || self.signed_by.as_ref().is_some_and(is_signed)
    }

    /// The key of the layer's index and content.
    pub fn key(&self) -> Result<LayerKey, index_format::DigestError> {
        let layer = self.layer.parse()?;
        let scope = match &self.repository {
            None => Scope::Trusted,
            Some(repository) => Scope::Untrusted {
                repository: repository.clone(),
                index: self.index.parse()?,
            },
        };
        Ok(LayerKey { scope, layer })
    }
}

/// What is known of one reference on one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The reference, normalised.
    pub reference: String,
    /// `os/arch[/variant]` as asked for.
    pub platform: String,
    /// Digest of the image manifest.
    pub manifest: String,
    /// Media type of the image manifest.
    pub manifest_type: String,
    /// Digest of the config.
    pub config: String,
    /// The policy that the indexes were accepted under.
    pub policy: Policy,
    /// Identity of the merged index.
    pub merged: String,
    /// The layers from the bottom up.
    pub layers: Vec<LayerDecision>,
    /// Compressed size of all layers in bytes.
    pub size: u64,
    /// The packs that were attached to it.
    #[serde(default)]
    pub packs: Vec<PackPlace>,
}

/// Image records and small blobs below one root.
#[derive(Clone, Debug)]
pub struct ImageStore {
    images: PathBuf,
    blobs: PathBuf,
    /// Held while a record changes, so that one that is removed meanwhile does not come back.
    changing: Arc<Mutex<()>>,
}

impl ImageStore {
    /// The store below `root`. Its clones change records one after the other; two stores of one
    /// root do not.
    pub fn new(root: &Path) -> Self {
        ImageStore {
            images: root.join("images"),
            blobs: root.join("blobs/sha256"),
            changing: Arc::default(),
        }
    }

    /// What is known of a reference on a platform.
    pub fn find(&self, reference: &str, platform: &str) -> Option<ImageRecord> {
        let bytes = fs::read(self.record_path(reference, platform)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Every known image, by reference.
    pub fn list(&self) -> Vec<ImageRecord> {
        let mut records: Vec<ImageRecord> = fs::read_dir(&self.images)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok())
            .collect();
        records.sort_by(|a, b| (&a.reference, &a.platform).cmp(&(&b.reference, &b.platform)));
        records
    }

    /// Keeps a record, replacing an older one of the same reference and platform.
    ///
    /// # Errors
    /// Where the disk cannot take it.
    pub fn put(&self, record: &ImageRecord) -> Result<(), ImageError> {
        let _alone = self.change();
        self.write_record(record)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().expect("no holder of this lock panics")
    }

    fn write_record(&self, record: &ImageRecord) -> Result<(), ImageError> {
        let path = self.record_path(&record.reference, &record.platform);
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|e| ImageError::Worker(format!("an image record: {e}")))?;
        write(&path, &bytes)
    }

    /// Forgets a record; one that is not there is no error.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove(&self, record: &ImageRecord) -> Result<(), ImageError> {
        let _alone = self.change();
        let path = self.record_path(&record.reference, &record.platform);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(on_file("removing", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// A layer of some repository has been closed: its index is everyone's from now on.
    ///
    /// # Errors
    /// Where the disk cannot take it.
    pub fn promote(&self, key: &LayerKey) -> Result<(), ImageError> {
        let _alone = self.change();
        for mut record in self.list() {
            let concerned: Vec<&mut LayerDecision> = record
                .layers
                .iter_mut()
                .filter(|l| l.key().ok().as_ref() == Some(key))
                .collect();
            if concerned.is_empty() {
                continue;
            }
            concerned
                .into_iter()
                .for_each(|decision| decision.repository = None);
            self.write_record(&record)?;
        }
        Ok(())
    }

    /// Forgets every image that was resolved with that index.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_with(&self, key: &LayerKey) -> Result<(), ImageError> {
        for record in self.list() {
            if record
                .layers
                .iter()
                .any(|l| l.key().ok().as_ref() == Some(key))
            {
                self.remove(&record)?;
            }
        }
        Ok(())
    }

    /// A manifest or config, verified.
    pub fn blob(&self, digest: Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.blobs.join(digest.hex())).ok()?;
        // What the disk has damaged is fetched again.
        (Digest::of(&bytes) == digest).then_some(bytes)
    }

    /// Keeps a verified manifest or config.
    ///
    /// # Errors
    /// Where the disk cannot take it.
    pub fn put_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), ImageError> {
        write(&self.blobs.join(digest.hex()), bytes)
    }

    /// Removes every blob that no record names.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn prune_blobs(&self, records: &[ImageRecord]) -> Result<(), ImageError> {
        let named = |name: &str| {
            records
                .iter()
                .any(|r| r.manifest.ends_with(name) || r.config.ends_with(name))
        };
        for entry in fs::read_dir(&self.blobs).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_none_or(|name| !named(name)) {
                fs::remove_file(entry.path()).map_err(on_file("removing", &entry.path()))?;
            }
        }
        Ok(())
    }

    fn record_path(&self, reference: &str, platform: &str) -> PathBuf {
        let key = Digest::of(format!("{reference}\n{platform}").as_bytes());
        self.images.join(format!("{}.json", key.hex()))
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(on_file("creating", parent))?;
    }
    brisk_durable::write_file(path, bytes).map_err(on_file("writing", path))
}
