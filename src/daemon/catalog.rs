//! The images of a root as users see them: listed, forgotten, pruned.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use index_format::Digest;
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::daemon::control::{Failure, ImageRow};
use crate::daemon::mounts::MountBook;
use crate::daemon::query::{failure, image_failure};
use crate::daemon::remote::documents::Documents;
use brisk_cache::{Cache, LayerKey};
use brisk_image::index_store::IndexStore;
use brisk_image::startup::StartupStore;
use brisk_image::store::{ImageRecord, ImageStore};
use brisk_registry::Source;

/// The images of a root.
pub struct Catalog {
    images: ImageStore,
    indexes: IndexStore,
    startups: StartupStore,
    cache: Cache,
    mounts: Arc<MountBook>,
    documents: Documents,
    resolving: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    keeping: Arc<RwLock<()>>,
}

/// Held while something comes to be of which no record is kept yet: nothing is swept meanwhile.
pub type Keeping = OwnedRwLockReadGuard<()>;

/// Held by the only one that resolves a reference.
pub struct Resolving {
    _single: OwnedMutexGuard<()>,
    _keeping: Keeping,
}

/// Held while nothing comes to be.
pub struct Sweeping {
    _alone: OwnedRwLockWriteGuard<()>,
}

impl Catalog {
    /// The images in these stores.
    pub fn new(
        images: ImageStore,
        indexes: IndexStore,
        startups: StartupStore,
        cache: Cache,
        mounts: Arc<MountBook>,
        documents: Documents,
    ) -> Self {
        Catalog {
            images,
            indexes,
            startups,
            cache,
            mounts,
            documents,
            resolving: Mutex::default(),
            keeping: Arc::default(),
        }
    }

    /// Waits until nobody else resolves that reference: two runs of one image share the pull.
    pub async fn resolving(&self, reference: &str) -> Resolving {
        let lock = {
            let mut resolving = self
                .resolving
                .lock()
                .expect("no holder of this lock panics");
            // Those that nobody waits for any more go, so that the map does not grow.
            resolving.retain(|_, lock| Arc::strong_count(lock) > 1);
            resolving.entry(reference.to_owned()).or_default().clone()
        };
        let _single = lock.lock_owned().await;
        let _keeping = self.keep().await;
        Resolving { _single, _keeping }
    }

    /// Keeps what comes to be from being swept.
    pub async fn keep(&self) -> Keeping {
        self.keeping.clone().read_owned().await
    }

    /// Ready to sweep, unless something comes to be just now.
    pub fn sweeping(&self) -> Option<Sweeping> {
        let _alone = self.keeping.clone().try_write_owned().ok()?;
        Some(Sweeping { _alone })
    }

    /// One row a known image.
    pub fn rows(&self) -> Vec<ImageRow> {
        let mounted = self.mounts.images();
        let present: HashMap<(Digest, bool), u64> = self
            .cache
            .layers()
            .into_iter()
            .map(|usage| ((usage.layer, usage.trusted), usage.present_bytes))
            .collect();
        let bytes = |record: &ImageRecord| {
            record
                .layers
                .iter()
                .filter_map(|layer| {
                    let digest: Digest = layer.layer.parse().ok()?;
                    present.get(&(digest, layer.repository.is_none()))
                })
                .sum()
        };
        self.images
            .list()
            .into_iter()
            .map(|record| ImageRow {
                bytes_present: bytes(&record),
                uncompressed_size: self.uncompressed_size(&record),
                mounted: mounted.iter().any(|m| m.manifest == record.manifest),
                reference: record.reference,
                digest: record.manifest,
                platform: record.platform,
                size: record.size,
            })
            .collect()
    }

    fn uncompressed_size(&self, record: &ImageRecord) -> Option<u64> {
        let sizes = record.layers.iter().map(|layer| {
            let index = self.indexes.load(&layer.key().ok()?)?;
            Some(index.stream_size())
        });
        sizes.sum()
    }

    /// Forgets the images that `name` (reference or digest) means; gives their references.
    ///
    /// # Errors
    /// Where there is none, or one is mounted.
    pub fn remove(&self, name: &str) -> Result<Vec<String>, Failure> {
        let normal = name
            .parse::<Source>()
            .map_or(name.to_owned(), |s| s.to_string());
        let chosen: Vec<ImageRecord> = self
            .images
            .list()
            .into_iter()
            .filter(|r| r.reference == normal || r.manifest == name)
            .collect();
        if chosen.is_empty() {
            return Err(Failure {
                message: format!("no image {name} is known here"),
                hint: Some("`brisk images` lists the known ones".to_owned()),
            });
        }
        let mounted = self.mounts.images();
        if let Some(record) = chosen
            .iter()
            .find(|r| mounted.iter().any(|m| m.manifest == r.manifest))
        {
            return Err(Failure {
                message: format!("image {} is in use", record.reference),
                hint: Some("remove its containers and mounts first".to_owned()),
            });
        }
        self.forget(&chosen)
    }

    /// Forgets the images that nothing has mounted; gives their references.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn remove_unmounted(&self) -> Result<Vec<String>, Failure> {
        let mounted = self.mounts.images();
        let chosen: Vec<ImageRecord> = self
            .images
            .list()
            .into_iter()
            .filter(|r| mounted.iter().all(|m| m.manifest != r.manifest))
            .collect();
        self.forget(&chosen)
    }

    fn forget(&self, chosen: &[ImageRecord]) -> Result<Vec<String>, Failure> {
        for record in chosen {
            self.images.remove(record).map_err(|e| image_failure(&e))?;
        }
        Ok(chosen.iter().map(|r| r.reference.clone()).collect())
    }

    /// Drops layers, indexes and blobs that no image, no mount and no remote snapshot names;
    /// gives how many layers stay because something has them open: a comparison with the diff
    /// ID, a pull.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn sweep(&self, _alone: &Sweeping) -> Result<usize, Failure> {
        let records = self.images.list();
        let mut mounted = self.mounts.images();
        mounted.extend(self.documents.list().into_iter().map(|d| d.image));
        let recorded = records.iter().flat_map(|r| r.layers.iter());
        let mut keys: Vec<LayerKey> = recorded.filter_map(|d| d.key().ok()).collect();
        for layer in mounted.iter().flat_map(|m| &m.layers) {
            if let Ok(key) = layer.decision.key() {
                // A layer that has been closed since is everyone's.
                keys.push(LayerKey::trusted(key.layer));
                keys.push(key);
            }
        }
        let merged: Vec<Digest> = records
            .iter()
            .map(|r| &r.merged)
            .chain(mounted.iter().map(|m| &m.merged_index))
            .filter_map(|text| text.parse().ok())
            .collect();
        let manifests: Vec<Digest> = records
            .iter()
            .map(|r| &r.manifest)
            .chain(mounted.iter().map(|m| &m.manifest))
            .filter_map(|text| text.parse().ok())
            .collect();
        let in_use = self.cache.retain(&keys).map_err(|e| failure(&e, None))?;
        self.indexes
            .retain(&keys, &merged)
            .map_err(|e| image_failure(&e))?;
        self.startups
            .retain(&manifests)
            .map_err(|e| image_failure(&e))?;
        self.images
            .prune_blobs(&records)
            .map_err(|e| image_failure(&e))?;
        Ok(in_use)
    }
}
