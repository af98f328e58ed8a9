//! A pack asked for as soon as its image is known, while the indexes are still on their way.

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use crate::daemon::control::Program;
use crate::daemon::startups::StartKey;
use brisk_cache::Cache;
use brisk_image::documents::Documents;
use brisk_image::pack::{self, PackPlace};
use brisk_image::query::source_blob;
use brisk_image::{ImageError, Observer, Query};
use brisk_layer::PackDownload;

/// Hears of an image while it is resolved, and passes on to another observer what it hears.
pub struct EarlyPack {
    observer: Arc<dyn Observer>,
    query: Query,
    program: Program,
    cache: Cache,
    download: Mutex<Option<PackDownload>>,
}

impl EarlyPack {
    /// For the start of a program.
    pub fn new(
        observer: &Arc<dyn Observer>,
        query: Query,
        program: &Program,
        cache: &Cache,
    ) -> Arc<Self> {
        Arc::new(EarlyPack {
            observer: observer.clone(),
            query,
            program: program.clone(),
            cache: cache.clone(),
            download: Mutex::default(),
        })
    }

    /// The pack that was asked for, once.
    pub fn take(&self) -> Option<PackDownload> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<PackDownload>> {
        self.download.lock().expect("no holder of this lock panics")
    }
}

/// A download of a pack: all of it where nothing of its layers can be here, else its table first.
///
/// # Errors
/// Where a layout directory has no such blob.
pub fn download(
    query: &Query,
    place: &PackPlace,
    is_fresh: bool,
) -> Result<Option<PackDownload>, ImageError> {
    let Some(blob) = place.blob() else {
        return Ok(None);
    };
    let blob = source_blob(&query.source, blob)?;
    let runtime = Handle::current();
    Ok(Some(match is_fresh {
        true => PackDownload::start(&runtime, blob),
        false => PackDownload::lazily(&runtime, blob, place.table),
    }))
}

impl Observer for EarlyPack {
    fn warn(&self, message: String) {
        self.observer.warn(message);
    }

    fn described(&self) {
        self.observer.described();
    }

    fn pulling(&self, bytes: u64) {
        self.observer.pulling(bytes);
    }

    fn pulled(&self, bytes: u64) {
        self.observer.pulled(bytes);
    }

    fn found(&self, documents: &Documents, packs: &[PackPlace]) {
        let key = StartKey::new(documents.manifest, &documents.config, &self.program);
        let Some(place) = key.and_then(|key| pack::choose(packs, key.command)) else {
            return;
        };
        let here = self.cache.layers();
        let is_fresh = documents
            .layers
            .iter()
            .all(|layer| here.iter().all(|usage| usage.layer != layer.digest));
        match download(&self.query, place, is_fresh) {
            Ok(download) => *self.lock() = download,
            Err(error) => tracing::warn!(%error, "a pack cannot be read"),
        }
    }
}
