//! Serves the images of containerd's remote snapshots: resolves them, mounts them, lets go of
//! them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use index_format::Index;
use lru::LruCache;
use tokio::runtime::Handle;

use crate::daemon::catalog::Catalog;
use crate::daemon::config::WithoutIndex;
use crate::daemon::control::{Background, Failure, ImageRequest};
use crate::daemon::holders::snapshot_holder;
use crate::daemon::layers::LayerBook;
use crate::daemon::mounted::{ImageMount, MountedLayer};
use crate::daemon::mounts::MountBook;
use crate::daemon::query::{Queries, failure, image_failure};
use crate::daemon::remote::documents::{self, Document, Documents};
use crate::daemon::remote::flights::Flights;
use brisk_image::document::LAYER_LIMIT;
use brisk_image::index_store::IndexStore;
use brisk_image::trust::Policy;
use brisk_image::{LowestLayers, Observer, Query, Resolver};
use brisk_registry::Source;
use brisk_snapshotter::SnapshotError;
use brisk_snapshotter::record::Usage;
use brisk_snapshotter::remote::{ImageLabels, Living, RemoteImage, RemoteImages, RemoteSnapshot};

/// Merged indexes of lower parts of images whose identity is remembered.
const PARTS_KNOWN: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// What images are served with.
pub struct Parts {
    /// What is kept of them.
    pub documents: Documents,
    /// Finds indexes, pulls layers that have none.
    pub resolver: Resolver,
    /// Makes queries.
    pub queries: Arc<Queries>,
    /// Indexes.
    pub indexes: IndexStore,
    /// Open layers.
    pub layers: Arc<LayerBook>,
    /// Mounts.
    pub mounts: Arc<MountBook>,
    /// Sweeps what nothing names.
    pub catalog: Arc<Catalog>,
    /// Where registries are asked.
    pub runtime: Handle,
    /// What becomes of layers without an index.
    pub without_index: WithoutIndex,
    /// What is fetched while nothing is asked for.
    pub background: Background,
}

/// The images of containerd's remote snapshots.
pub struct ServedImages {
    parts: Parts,
    me: Weak<ServedImages>,
    flights: Flights,
    /// Identity of the merged index of the lowest layers of an image, by that of the whole.
    lowest: Mutex<LruCache<(String, usize), String>>,
    /// Something was let go of whose space is not freed yet.
    is_unswept: AtomicBool,
}

impl ServedImages {
    /// Nothing is resolved yet; what an earlier service left is swept first.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new_cyclic(|me| ServedImages {
            parts,
            me: me.clone(),
            flights: Flights::default(),
            lowest: Mutex::new(LruCache::new(PARTS_KNOWN)),
            is_unswept: AtomicBool::new(true),
        })
    }

    /// Resolves an image for all who ask for it.
    async fn resolve_alone(&self, labels: &ImageLabels) -> Result<Arc<Document>, Failure> {
        let _keeping = self.parts.catalog.keep().await;
        let known = labels
            .manifest
            .is_some()
            .then(|| self.parts.documents.load(&documents::name(labels, false)))
            .flatten()
            .filter(|document| self.is_usable(document));
        let document = match known {
            Some(known) => known,
            None => self.resolve_anew(labels, false, LAYER_LIMIT).await?,
        };
        self.flights.landed(labels, &document.name());
        Ok(Arc::new(document))
    }

    /// Asks the registry, and keeps what comes of it.
    async fn resolve_anew(
        &self,
        labels: &ImageLabels,
        is_guarded: bool,
        limit: usize,
    ) -> Result<Document, Failure> {
        let parts = &self.parts;
        let _keeping = parts.catalog.keep().await;
        let request = self.request(labels);
        let query = self.query(labels, &request, is_guarded)?;
        let pull = is_guarded || parts.without_index == WithoutIndex::Fetch;
        let observer: Arc<dyn Observer> = Arc::new(Logged(labels.reference.clone()));
        let lowest = parts
            .resolver
            .lowest_layers(&query, limit, pull, &observer)
            .await
            .map_err(|e| {
                // Layers that were pulled before it failed are of no use.
                self.is_unswept.store(true, Ordering::SeqCst);
                image_failure(&e)
            })?;
        for reason in lowest
            .layers
            .iter()
            .filter_map(|l| l.decision.reason.as_ref())
        {
            tracing::warn!(reference = query.reference, reason, "not lazy");
        }
        if lowest.layers.is_empty() {
            let reason = lowest.reason.unwrap_or_default();
            return Err(Failure {
                message: format!(
                    "{}: its lowest layer has no index: {reason}",
                    query.reference
                ),
                hint: None,
            });
        }
        let (me, reference) = (self.shared()?, query.reference.clone());
        let labels = ImageLabels {
            manifest: Some(lowest.manifest.to_string()),
            ..labels.clone()
        };
        let document = move || me.keep(labels, request, &reference, is_guarded, &lowest, &observer);
        tokio::task::spawn_blocking(document)
            .await
            .map_err(|e| failure(&e, None))?
    }

    /// Merges what was found and keeps it, unless what is kept already serves more.
    fn keep(
        &self,
        labels: ImageLabels,
        request: ImageRequest,
        reference: &str,
        is_guarded: bool,
        lowest: &LowestLayers,
        observer: &Arc<dyn Observer>,
    ) -> Result<Document, Failure> {
        let indexes: Vec<Index> = lowest.layers.iter().map(|l| l.index.clone()).collect();
        let resolver = &self.parts.resolver;
        let merged = resolver.merge_indexes(reference, &indexes, observer.as_ref());
        let merged = merged.map_err(|e| image_failure(&e))?;
        let document = Document {
            is_guarded,
            diff_ids: lowest.diff_ids.iter().map(ToString::to_string).collect(),
            image: ImageMount {
                request,
                reference: reference.to_owned(),
                manifest: lowest.manifest.to_string(),
                merged_index: merged.digest().to_string(),
                layers: lowest.layers.iter().map(MountedLayer::of).collect(),
                explicit: false,
                alone: false,
                background: self.parts.background,
            },
            labels,
            reason: lowest.reason.clone(),
        };
        if let Some(reason) = &document.reason {
            let layers = document.image.layers.len();
            tracing::warn!(
                reference,
                layers,
                reason,
                "the layers above these are not lazy"
            );
        }
        let old = self.parts.documents.load(&document.name());
        let serves_more = |old: &Document| old.image.layers.len() > document.image.layers.len();
        if let Some(old) = old.filter(|old| serves_more(old) && self.is_usable(old)) {
            return Ok(old);
        }
        self.parts.documents.store(&document)?;
        Ok(document)
    }

    fn request(&self, labels: &ImageLabels) -> ImageRequest {
        ImageRequest {
            reference: labels.reference.clone(),
            platform: None,
            plain_http: false,
            docker_config: None,
            background: Some(self.parts.background),
        }
    }

    /// The query for an image of a registry. Whether it is held against the strict policy is
    /// decided by the reference that the user gave, not by the manifest that containerd found.
    fn query(
        &self,
        labels: &ImageLabels,
        request: &ImageRequest,
        is_guarded: bool,
    ) -> Result<Query, Failure> {
        let source: Source = labels.reference.parse().map_err(|e| failure(&e, None))?;
        if !matches!(source, Source::Registry(_)) {
            return Err(Failure {
                message: format!("{:?} is no image of a registry", labels.reference),
                hint: None,
            });
        }
        let mut query = self.parts.queries.query(request, false)?;
        if let Some(manifest) = &labels.manifest {
            query.manifest = Some(manifest.parse().map_err(|e| failure(&e, None))?);
        }
        if is_guarded {
            query.policy = Policy::Strict;
            query.trusted_only = true;
        }
        Ok(query)
    }

    /// Whether every index is there, and acceptable under the policy of today.
    fn is_usable(&self, document: &Document) -> bool {
        let query = self.query(
            &document.labels,
            &document.image.request,
            document.is_guarded,
        );
        let (is_strict, keys) = match query {
            Ok(query) => (query.policy == Policy::Strict, query.keys),
            Err(_) => (true, Vec::new()),
        };
        document.image.layers.iter().all(|layer| {
            let trust = self.parts.layers.trust(&layer.decision);
            let is_believed =
                || !is_strict || !document.is_guarded && layer.decision.is_vouched_for(&keys);
            trust.is_some_and(|is_trusted| is_trusted || is_believed())
        })
    }

    /// Whether everyone trusts the indexes of the lowest layers by now.
    fn is_trusted(&self, document: &Document, layers: usize) -> bool {
        let mut lowest = document.image.layers.iter().take(layers);
        lowest.all(|layer| self.parts.layers.trust(&layer.decision) == Some(true))
    }

    /// The document that a snapshot is mounted by; asks the registry where none can be used.
    ///
    /// An index that was accepted for one repository serves the image that it was accepted for.
    /// What is mounted at a layer within that image is another image, which shares its lower
    /// layers: it gets what everyone trusts.
    async fn document(&self, snapshot: &RemoteSnapshot) -> Result<Document, Failure> {
        let place = &snapshot.place;
        let kept = self.parts.documents.load(&place.image);
        let serves = |d: &Document| d.image.layers.len() >= place.layers && self.is_usable(d);
        let labels = match (&kept, &snapshot.labels) {
            (Some(kept), _) => kept.labels.clone(),
            (None, Some(labels)) => labels.clone(),
            (None, None) => return Err(lost(place.image.as_str())),
        };
        let document = match kept.filter(serves) {
            Some(document) => document,
            None => self.resolve_anew(&labels, false, LAYER_LIMIT).await?,
        };
        if document.name() != place.image || !serves(&document) {
            return Err(lost(&labels.reference));
        }
        let is_within = place.layers < document.diff_ids.len();
        let is_enough = !place.is_guarded && !is_within || self.is_trusted(&document, place.layers);
        if is_enough {
            return Ok(document);
        }
        self.guarded(&document.labels, place.layers).await
    }

    /// A document whose indexes everyone trusts, for the lowest layers of an image.
    async fn guarded(&self, labels: &ImageLabels, layers: usize) -> Result<Document, Failure> {
        let kept = self.parts.documents.load(&documents::name(labels, true));
        let serves = |d: &Document| d.image.layers.len() >= layers && self.is_usable(d);
        match kept.filter(serves) {
            Some(document) => Ok(document),
            None => self.resolve_anew(labels, true, layers).await,
        }
    }

    /// The lowest layers of an image as they are mounted.
    fn lowest(&self, document: &Document, layers: usize) -> Result<ImageMount, Failure> {
        let mut image = document.image.clone();
        if layers == image.layers.len() {
            return Ok(image);
        }
        let key = (image.merged_index.clone(), layers);
        image.layers.truncate(layers);
        let known = self.lock_lowest().get(&key).cloned();
        image.merged_index = match known {
            Some(digest) => digest,
            None => self.merge(&image)?.digest().to_string(),
        };
        self.lock_lowest().put(key, image.merged_index.clone());
        Ok(image)
    }

    fn merge(&self, image: &ImageMount) -> Result<Index, Failure> {
        let mut indexes = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let index = self.parts.layers.index(&layer.decision);
            indexes.push(index.ok_or_else(|| lost(&image.reference))?);
        }
        let observer = Logged(image.reference.clone());
        let resolver = &self.parts.resolver;
        let merged = resolver.merge_indexes(&image.reference, &indexes, &observer);
        merged.map_err(|e| image_failure(&e))
    }

    /// The merged index of an image, made again where it is gone.
    fn merged(&self, image: &ImageMount) -> Result<Index, Failure> {
        let digest = image.merged_index.parse().map_err(|e| failure(&e, None))?;
        match self.parts.indexes.load_merged(digest) {
            Some(merged) => Ok(merged),
            None => self.merge(image),
        }
    }

    fn mounted(&self, snapshot: &RemoteSnapshot) -> Result<PathBuf, Failure> {
        let runtime = &self.parts.runtime;
        let _keeping = runtime.block_on(self.parts.catalog.keep());
        let document = runtime.block_on(self.document(snapshot))?;
        let image = self.lowest(&document, snapshot.place.layers)?;
        let merged = image.clone();
        let holder = snapshot_holder(snapshot.id);
        let mounts = &self.parts.mounts;
        let acquired = mounts.hold(image, &holder, || self.merged(&merged), &|_| {})?;
        Ok(acquired.directory)
    }

    fn shared(&self) -> Result<Arc<Self>, Failure> {
        self.me.upgrade().ok_or_else(|| Failure {
            message: "the service is ending".to_owned(),
            hint: None,
        })
    }

    fn lock_lowest(&self) -> std::sync::MutexGuard<'_, LruCache<(String, usize), String>> {
        self.lowest.lock().expect("no holder of this lock panics")
    }
}

#[tonic::async_trait]
impl RemoteImages for ServedImages {
    async fn resolve(&self, image: &ImageLabels) -> Option<RemoteImage> {
        let flight = self.flights.join(image, || {
            let (me, labels) = (self.me.clone(), image.clone());
            // A task of its own: a client that goes away takes nothing along.
            let task = tokio::spawn(async move {
                let me = me.upgrade()?;
                match me.resolve_alone(&labels).await {
                    Ok(document) => Some(document),
                    Err(error) => {
                        let hint = error.hint.unwrap_or_default();
                        let (reference, error) = (&labels.reference, error.message);
                        tracing::warn!(reference, error, hint, "not lazy: containerd unpacks it");
                        me.flights.failed(&labels);
                        None
                    }
                }
            });
            async move { task.await.ok().flatten() }
        });
        Some(flight.await?.remote_image())
    }

    fn complete(&self, snapshot: RemoteSnapshot) {
        self.flights.complete(&snapshot.place.image);
        // Its content begins to arrive before the first container is made.
        let Ok(me) = self.shared() else { return };
        self.parts.runtime.spawn_blocking(move || {
            if let Err(error) = me.mounted(&snapshot) {
                tracing::warn!(error = error.message, "mounting a pulled image");
            }
        });
    }

    fn may_share(&self, snapshot: &RemoteSnapshot, image: Option<&ImageLabels>) -> bool {
        let place = &snapshot.place;
        let Some(document) = self.parts.documents.load(&place.image) else {
            return false;
        };
        // What is within an image is not served to others by its indexes.
        if place.layers < document.diff_ids.len() || self.is_trusted(&document, place.layers) {
            return true;
        }
        let query = |labels: &ImageLabels| self.query(labels, &self.request(labels), false);
        let (Some(Ok(other)), Ok(own)) = (image.map(query), query(&document.labels)) else {
            return false;
        };
        other.policy != Policy::Strict && other.source.scope() == own.source.scope()
    }

    async fn guard(&self, snapshot: &RemoteSnapshot) -> Result<(), String> {
        let kept = self.parts.documents.load(&snapshot.place.image);
        let labels = kept.map(|d| d.labels).or_else(|| snapshot.labels.clone());
        let labels = labels.ok_or_else(|| lost(&snapshot.place.image).message)?;
        let guarded = self.guarded(&labels, snapshot.place.layers).await;
        guarded.map(drop).map_err(|error| error.message)
    }

    fn tree(&self, snapshot: &RemoteSnapshot) -> Result<PathBuf, String> {
        self.mounted(snapshot).map_err(|error| error.message)
    }

    fn usage(&self, snapshot: &RemoteSnapshot) -> Usage {
        let document = self.parts.documents.load(&snapshot.place.image);
        let position = snapshot.place.layers.saturating_sub(1);
        let layer = document.and_then(|d| d.image.layers.get(position).cloned());
        let (size, inodes) = layer.map_or((0, 0), |layer| {
            self.parts.layers.disk_usage(&layer.decision)
        });
        Usage { size, inodes }
    }

    fn retain(
        &self,
        living: &dyn Fn() -> Result<Living, SnapshotError>,
    ) -> Result<bool, SnapshotError> {
        let parts = &self.parts;
        let Some(alone) = parts.catalog.sweeping() else {
            return Ok(false);
        };
        let mut has_changed = self.flights.expire();
        let mut kept = self.flights.documents();
        let (there, held) = (parts.documents.names(), parts.mounts.snapshots());
        // After what is there and held: what came since is not in question.
        let living = living()?;
        kept.extend(living.images);
        let guarded = kept.iter().filter_map(|name| parts.documents.load(name));
        let guarded: Vec<_> = guarded.map(|d| documents::name(&d.labels, true)).collect();
        kept.extend(guarded);
        for name in there.difference(&kept) {
            parts.documents.remove(name);
            has_changed = true;
        }
        for number in held.difference(&living.snapshots) {
            parts.mounts.release(&snapshot_holder(*number));
            has_changed = true;
        }
        if has_changed {
            self.is_unswept.store(true, Ordering::SeqCst);
        }
        if !self.is_unswept.load(Ordering::SeqCst) {
            return Ok(true);
        }
        match parts.catalog.sweep(&alone) {
            Ok(in_use) if in_use > 0 || parts.mounts.has_ending() => Ok(false),
            Ok(_) => {
                self.is_unswept.store(false, Ordering::SeqCst);
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(error = error.message, "freeing what no image needs");
                Ok(true)
            }
        }
    }
}

/// Writes to the log what a client would be told.
struct Logged(String);

impl Observer for Logged {
    fn warn(&self, message: String) {
        tracing::warn!(reference = self.0, "{message}");
    }

    fn pulling(&self, bytes: u64) {
        tracing::info!(reference = self.0, bytes, "pulling a layer whole");
    }

    fn pulled(&self, _: u64) {}
}

fn lost(what: &str) -> Failure {
    Failure {
        message: format!("what is known of image {what} is gone or does not fit its snapshots"),
        hint: Some("remove the image in containerd and pull it again".to_owned()),
    }
}
