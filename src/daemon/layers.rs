//! The layers that are open: shared by every mount that reads them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use index_format::{Index, Limits, SectionId};

use crate::daemon::config;
use crate::daemon::control::{Background, Failure, IndexInspection, LayerInspection};
use crate::daemon::mounted::{ImageMount, MountedLayer};
use crate::daemon::promotion::Promotion;
use crate::daemon::query::{Queries, failure, image_failure};
use brisk_cache::{Cache, LayerKey, Scope};
use brisk_image::document::LayerDescriptor;
use brisk_image::index_store::IndexStore;
use brisk_image::query::source_blob;
use brisk_image::store::LayerDecision;
use brisk_image::trust::{Source, Trust};
use brisk_image::{Observer, Query, ResolvedLayer};
use brisk_layer::{
    BackgroundFetch, BackgroundMode, BackgroundOutcome, CheckpointSource, Closing, FetchGate,
    FetchLimits, FetchedCheckpoints, ImageContent, IndexCheckpoints, Layer, LayerParts, OnOutage,
    Policy, Resources, StartupFetch,
};
use brisk_registry::{BlobRef, ImageSource};

/// How often a whole fetch tells how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The layers of one mount, from the bottom up, and what the mounted tree reads them through.
#[derive(Clone)]
pub struct OpenLayers {
    /// The layers.
    pub layers: Vec<Arc<Layer>>,
    /// Answers the reads of the mounted tree.
    pub content: Arc<ImageContent>,
    /// What is fetched in the background for this mount; ends with it.
    fetching: Arc<Mutex<Option<BackgroundFetch>>>,
    /// What its containers' starts need, on its way; ends with it.
    starting: Arc<Mutex<Vec<StartupFetch>>>,
}

impl OpenLayers {
    /// Keeps what brings a start's content for as long as the mount lives.
    pub fn keep(&self, fetch: StartupFetch) {
        let mut starting = self.starting.lock().expect("no holder of this lock panics");
        starting.retain(|fetch| !fetch.is_done());
        starting.push(fetch);
    }

    /// True where reads of a layer fail, since its index contradicts it.
    pub fn has_poisoned(&self) -> bool {
        let is_poisoned = |layer: &Arc<Layer>| layer.closing() == Closing::Poisoned;
        self.layers.iter().any(is_poisoned)
    }

    /// Compares the layers that have arrived whole, however that came about, with their diff
    /// IDs: what nobody fetches for any more would else stay undecided. What an unclean stop has
    /// made doubtful is verified on the way. Fetches nothing; blocks.
    pub fn close_complete(&self) {
        for layer in &self.layers {
            let file = layer.file();
            let is_whole = file.present_bytes() == file.stream_size();
            let is_open = layer.closing() == Closing::Unclosed && is_whole;
            if !is_open || layer.index().features().is_toc_layout() {
                continue;
            }
            match layer.close() {
                Ok(closing) => {
                    tracing::info!(layer = %layer.index().layer_digest(), ?closing, "compared");
                }
                Err(error) => tracing::debug!(%error, "not closed"),
            }
        }
    }
}

/// The open layers of a service.
pub struct LayerBook {
    cache: Cache,
    indexes: IndexStore,
    queries: Arc<Queries>,
    resources: Arc<Resources>,
    policy: Policy,
    fetch_limits: FetchLimits,
    promotion: Promotion,
    open: Mutex<HashMap<LayerKey, Weak<Layer>>>,
    gates: Mutex<HashMap<String, Arc<FetchGate>>>,
}

impl LayerBook {
    /// No layer is open yet.
    pub fn new(
        cache: Cache,
        indexes: IndexStore,
        queries: Arc<Queries>,
        resources: Arc<Resources>,
        fetch: &config::FetchConfig,
        promotion: Promotion,
    ) -> Self {
        let on_outage = match fetch.on_outage {
            config::OnOutage::Wait(limit) => OnOutage::Wait(limit),
            config::OnOutage::Forever => OnOutage::Forever,
            config::OnOutage::Eio => OnOutage::Eio,
        };
        LayerBook {
            cache,
            indexes,
            queries,
            resources,
            policy: Policy {
                on_outage,
                ..Policy::default()
            },
            fetch_limits: fetch.limits(),
            promotion,
            open: Mutex::default(),
            gates: Mutex::default(),
        }
    }

    /// Opens the layers of an image; nothing is fetched.
    ///
    /// # Errors
    /// Where an index is gone or a local copy cannot be opened.
    pub fn open(&self, image: &ImageMount) -> Result<OpenLayers, Failure> {
        let query = self.queries.query(&image.request, false)?;
        let layers = image
            .layers
            .iter()
            .map(|layer| self.open_layer(layer, &query))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(OpenLayers {
            content: Arc::new(ImageContent::new(layers.clone(), self.resources.clone())),
            layers,
            fetching: Arc::default(),
            starting: Arc::default(),
        })
    }

    fn open_layer(&self, layer: &MountedLayer, query: &Query) -> Result<Arc<Layer>, Failure> {
        let descriptor = layer.descriptor()?;
        let key = self.current_key(&layer.decision)?;
        let mut open = self.open.lock().expect("no holder of this lock panics");
        if let Some(layer) = open.get(&key).and_then(Weak::upgrade) {
            return Ok(layer);
        }
        let index = self.indexes.load(&key).ok_or_else(|| Failure {
            message: format!("the index of layer {} is gone", descriptor.digest),
            hint: Some("`brisk pull` the image again".to_owned()),
        })?;
        let blob = BlobRef {
            digest: descriptor.digest,
            size: descriptor.size,
        };
        let blob = source_blob(&query.source, blob).map_err(|e| image_failure(&e))?;
        let opened = Layer::new(LayerParts {
            checkpoints: self.checkpoints(&index, &key, &layer.decision, query)?,
            file: self
                .cache
                .layer(&key, index.stream_size())
                .map_err(|e| failure(&e, None))?,
            gate: self.gate(&query.source),
            resources: self.resources.clone(),
            policy: self.policy,
            diff_id: descriptor.diff_id,
            closing: match key.scope {
                Scope::Trusted => Closing::Closed,
                Scope::Untrusted { .. } => Closing::Unclosed,
            },
            owner: self.promotion.owner(key.clone()),
            index,
            blob,
        })
        .map_err(|e| failure(&e, None))?;
        open.retain(|_, layer| layer.strong_count() > 0);
        open.insert(key, Arc::downgrade(&opened));
        Ok(opened)
    }

    /// Whether a decision's index is there, and whether everyone trusts it by now.
    pub fn trust(&self, decision: &LayerDecision) -> Option<bool> {
        let key = self.current_key(decision).ok()?;
        let index = self.indexes.load(&key)?;
        let is_meant = index.digest().to_string() == decision.index;
        is_meant.then_some(key.scope == Scope::Trusted)
    }

    /// What the copy of a decision's layer takes on the disk: bytes and files.
    pub fn disk_usage(&self, decision: &LayerDecision) -> (u64, u64) {
        let key = self.current_key(decision);
        key.map_or((0, 0), |key| self.cache.disk_usage(&key))
    }

    /// The index of a decision's layer.
    pub fn index(&self, decision: &LayerDecision) -> Option<Index> {
        self.indexes.load(&self.current_key(decision).ok()?)
    }

    /// The key under which a decision's index is found now: a layer that has been closed since
    /// is everyone's.
    fn current_key(&self, decision: &LayerDecision) -> Result<LayerKey, Failure> {
        let key = decision.key().map_err(|e| failure(&e, None))?;
        let trusted = LayerKey::trusted(key.layer);
        let is_promoted = self
            .indexes
            .load(&trusted)
            .is_some_and(|index| index.digest().to_string() == decision.index);
        Ok(if is_promoted { trusted } else { key })
    }

    /// Where a layer's checkpoints come from: its own index where that is complete, else the
    /// artifact that the index came with.
    fn checkpoints(
        &self,
        index: &index_format::Index,
        key: &LayerKey,
        decision: &LayerDecision,
        query: &Query,
    ) -> Result<Arc<dyn CheckpointSource>, Failure> {
        let place = decision
            .artifact
            .as_ref()
            .filter(|_| !index.has_section(SectionId::Checkpoints));
        let Some(place) = place else {
            return Ok(Arc::new(IndexCheckpoints::new(index.clone())));
        };
        let (start, length) = place.checkpoints.unwrap_or((0, 0));
        let digest = place.blob.parse().map_err(|e| failure(&e, None))?;
        let blob = BlobRef {
            digest,
            size: place.size,
        };
        let elsewhere = query
            .elsewhere
            .as_ref()
            .filter(|source| place.repository == Some(source.scope()));
        let source = elsewhere.unwrap_or(&query.source);
        Ok(Arc::new(FetchedCheckpoints {
            index: index.clone(),
            blob: source_blob(source, blob).map_err(|e| image_failure(&e))?,
            range: start..start + length,
            path: self.indexes.section_path(key, SectionId::Checkpoints),
            limits: Limits::default(),
        }))
    }

    /// One gate a host, over all its layers and images: what nobody waits for makes way for
    /// readers.
    fn gate(&self, source: &ImageSource) -> Arc<FetchGate> {
        let host = match source {
            ImageSource::Registry { reference, .. } => reference.repository().host().to_owned(),
            ImageSource::Layout { .. } => String::new(),
        };
        let mut gates = self.gates.lock().expect("no holder of this lock panics");
        let gate = || FetchGate::new(self.fetch_limits);
        gates.entry(host).or_insert_with(gate).clone()
    }

    /// Starts fetching the rest of a mount's layers.
    pub fn start_background(&self, layers: &OpenLayers, background: Background) {
        let mode = match background {
            Background::Full => BackgroundMode::Full,
            Background::UntilReady => BackgroundMode::UntilReady,
            Background::Off => BackgroundMode::Off,
        };
        if mode == BackgroundMode::Off {
            // What came whole before, and was not decided when the service was killed.
            let layers = layers.clone();
            self.resources
                .runtime()
                .spawn_blocking(move || layers.close_complete());
        }
        let fetch = BackgroundFetch::start(
            layers.layers.clone(),
            mode,
            &self.resources,
            layers.content.account(),
        );
        *layers
            .fetching
            .lock()
            .expect("no holder of this lock panics") = Some(fetch);
    }

    /// The first container of a mount is ready: fetching until then ends.
    pub fn ready(&self, layers: &OpenLayers) {
        layers.content.account().guide(false);
        if let Some(fetch) = &*layers
            .fetching
            .lock()
            .expect("no holder of this lock panics")
        {
            fetch.ready();
        }
    }

    /// Fetches every layer of an image whole, as far as the cache has room.
    ///
    /// # Errors
    /// Where a layer cannot be opened, or what arrives contradicts its index.
    pub async fn fetch_whole(
        &self,
        image: &ImageMount,
        observer: &Arc<dyn Observer>,
    ) -> Result<(), Failure> {
        let open = self.open(image)?;
        let size = |layer: &Arc<Layer>| layer.index().stream_size();
        let present = || {
            open.layers
                .iter()
                .map(|layer| layer.file().present_bytes())
                .sum::<u64>()
        };
        let mut told = present();
        observer.pulling(
            open.layers
                .iter()
                .map(size)
                .sum::<u64>()
                .saturating_sub(told),
        );
        let fetch = BackgroundFetch::start(
            open.layers.clone(),
            BackgroundMode::Full,
            &self.resources,
            open.content.account(),
        );
        let outcome = fetch.outcome();
        tokio::pin!(outcome);
        let mut interval = tokio::time::interval(PROGRESS_INTERVAL);
        let outcome = loop {
            tokio::select! {
                outcome = &mut outcome => break outcome,
                _ = interval.tick() => {
                    let now = present();
                    observer.pulled(now.saturating_sub(told));
                    told = now;
                }
            }
        };
        match outcome {
            BackgroundOutcome::Complete => Ok(()),
            BackgroundOutcome::NoRoom => {
                observer.warn("the cache has no room for the whole image".to_owned());
                Ok(())
            }
            BackgroundOutcome::Corrupt => Err(contradiction(&image.reference, &open.layers)),
            BackgroundOutcome::Stopped => Err(Failure {
                message: "the fetch was stopped".to_owned(),
                hint: None,
            }),
        }
    }

    /// What is to be said of a mount's layers.
    pub fn inspect(&self, image: &ImageMount, open: &OpenLayers) -> Vec<LayerInspection> {
        image
            .layers
            .iter()
            .zip(&open.layers)
            .map(|(mounted, layer)| LayerInspection {
                digest: mounted.decision.layer.clone(),
                size: mounted.size,
                media_type: mounted.media_type.clone(),
                lazy: layer.index().features().stream_only().is_none(),
                reason: reason(&mounted.decision, layer.index()),
                index: Some(index_inspection(&mounted.decision, layer.closing())),
                uncompressed_size: Some(layer.index().stream_size()),
                bytes_present: layer.file().present_bytes(),
            })
            .collect()
    }

    /// What is to be said of a layer that has an index.
    pub fn inspect_resolved(&self, layer: &ResolvedLayer) -> LayerInspection {
        let key = self
            .current_key(&layer.decision)
            .unwrap_or_else(|_| layer.key.clone());
        let closing = match key.scope {
            Scope::Trusted => Closing::Closed,
            Scope::Untrusted { .. } => Closing::Unclosed,
        };
        LayerInspection {
            digest: layer.descriptor.digest.to_string(),
            size: layer.descriptor.size,
            media_type: layer.descriptor.media_type.clone(),
            lazy: layer.index.features().stream_only().is_none(),
            reason: reason(&layer.decision, &layer.index),
            index: Some(index_inspection(&layer.decision, closing)),
            uncompressed_size: self.indexes.load(&key).map(|index| index.stream_size()),
            bytes_present: self.cache.present_bytes(&key),
        }
    }

    /// What is to be said of a layer that nobody has an acceptable index of.
    pub fn inspect_unindexed(layer: &LayerDescriptor, reason: String) -> LayerInspection {
        LayerInspection {
            digest: layer.digest.to_string(),
            size: layer.size,
            media_type: layer.media_type.clone(),
            lazy: false,
            reason: Some(reason),
            index: None,
            uncompressed_size: None,
            bytes_present: 0,
        }
    }
}

/// Names the layers of an image that cannot be completed, since what arrives is not what their
/// indexes say.
fn contradiction(reference: &str, layers: &[Arc<Layer>]) -> Failure {
    let poisoned = |layer: &Arc<Layer>| layer.closing() == Closing::Poisoned;
    let is_decided = layers.iter().any(poisoned);
    let named: Vec<String> = layers
        .iter()
        .filter(|layer| poisoned(layer) || !is_decided && !layer.file().is_complete())
        .map(|layer| layer.index().layer_digest().to_string())
        .collect();
    Failure {
        message: format!(
            "{reference}: what the registry sends contradicts the index of layer {}",
            named.join(" and of layer ")
        ),
        hint: Some("the blob or its index is damaged; push them again".to_owned()),
    }
}

/// Why a layer is not lazy, or what is to be said of its index.
fn reason(decision: &LayerDecision, index: &Index) -> Option<String> {
    let stream_only = index.features().stream_only();
    stream_only
        .map(|why| format!("stream-only: {why}"))
        .or_else(|| decision.reason.clone())
}

fn index_inspection(decision: &LayerDecision, closing: Closing) -> IndexInspection {
    let is_vouched_for = decision.source == Source::Bound || decision.signed_by.is_some();
    let trust = match closing {
        Closing::Closed => Trust::Trusted,
        Closing::Unclosed if is_vouched_for => Trust::Trusted,
        Closing::Unclosed => Trust::Unclosed,
        Closing::Poisoned => Trust::Poisoned,
    };
    IndexInspection {
        source: decision.source.to_string(),
        trust: trust.to_string(),
        digest: decision.index.clone(),
        signed_by: decision.signed_by.clone(),
    }
}
