//! Recording what containers touch until they are ready, for the starts to come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use index_format::startup::{LeafRun, StartupSet};
use index_format::{Digest, LEAF_SIZE};
use oci_spec::image::ImageConfiguration;

use crate::daemon::control::{Program, Startup};
use crate::daemon::layers::OpenLayers;
use brisk_container::spec::entrypoint;
use brisk_image::startup::{StartupStore, command_digest};
use brisk_layer::{Account, PackDownload, Recorder, Resources, StartupFetch};

/// A container that has touched nothing new for so long, while no read waited, is taken to be
/// ready, unless its user has said when it is.
const IDLE_GAP: Duration = Duration::from_secs(10);
/// How often a recording is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// The start-up sets of a root, and the recordings under way.
pub struct Startups {
    store: StartupStore,
    resources: Arc<Resources>,
    /// By container.
    running: Mutex<HashMap<String, Recording>>,
}

/// What is being recorded.
struct Recording {
    recorder: Arc<Recorder>,
    account: Arc<Account>,
    layers: Vec<Digest>,
    manifest: Digest,
    command: Digest,
}

/// Which start of which image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartKey {
    /// Digest of the image manifest.
    pub manifest: Digest,
    /// See [`command_digest`].
    pub command: Digest,
}

impl StartKey {
    /// The start of a program in an image; none where no program is named.
    pub fn new(manifest: Digest, config: &ImageConfiguration, program: &Program) -> Option<Self> {
        let image = config.config().clone().unwrap_or_default();
        let arguments = entrypoint::combine(
            image.entrypoint().as_deref().unwrap_or_default(),
            image.cmd().as_deref().unwrap_or_default(),
            program.entrypoint.as_deref(),
            &program.command,
        )?;
        let command = command_digest(&arguments);
        Some(StartKey { manifest, command })
    }
}

impl Startups {
    /// Recordings into that store.
    pub fn new(store: StartupStore, resources: Arc<Resources>) -> Arc<Self> {
        Arc::new(Startups {
            store,
            resources,
            running: Mutex::default(),
        })
    }

    /// The store.
    pub fn store(&self) -> &StartupStore {
        &self.store
    }

    /// Brings what a start is going to read: the leaves of a pack, or those that earlier starts
    /// have touched. `early` was asked for already; `attached` is asked where the earlier starts
    /// are not known, or some of what they touched is not here.
    pub fn prefetch(
        &self,
        key: StartKey,
        open: &OpenLayers,
        early: Option<PackDownload>,
        attached: impl FnOnce() -> Option<PackDownload>,
    ) {
        let known = self.store.load(key.manifest, key.command);
        let runs = known.as_ref().map(|set| runs_in(set, open));
        let is_here = |run: &LeafRun| {
            let layer = &open.layers[run.layer as usize];
            let start = run.leaves.start * LEAF_SIZE;
            let end = (run.leaves.end * LEAF_SIZE).min(layer.index().stream_size());
            layer.is_local(start, end.saturating_sub(start))
        };
        let lacks = runs.as_ref().is_none_or(|runs| !runs.iter().all(is_here));
        let pack = early.or_else(|| lacks.then(attached).flatten());
        let runs = runs.unwrap_or_default();
        if !lacks {
            // All of it is here: nothing is to be guessed either.
            open.content.account().guide(true);
        }
        if pack.is_none() && (!lacks || runs.is_empty()) {
            return;
        }
        let (layers, account) = (open.layers.clone(), open.content.account());
        open.keep(StartupFetch::start(
            layers,
            pack,
            runs,
            &self.resources,
            account,
        ));
    }

    /// Begins to record what a container touches. Its mount must be a new one: what the kernel
    /// knows of it already is never asked for again. With `told`, only [`Startups::end`] ends it.
    pub fn begin(self: &Arc<Self>, key: StartKey, container: &str, open: &OpenLayers, told: bool) {
        let recorder = open.content.recorder().clone();
        recorder.start();
        let recording = Recording {
            recorder: recorder.clone(),
            account: open.content.account().clone(),
            layers: open.layers.iter().map(|layer| layer.digest()).collect(),
            manifest: key.manifest,
            command: key.command,
        };
        self.lock().insert(container.to_owned(), recording);
        if told {
            return;
        }
        let (startups, container) = (Arc::downgrade(self), container.to_owned());
        self.resources.runtime().spawn(async move {
            loop {
                tokio::time::sleep(LOOK_PAUSE).await;
                let Some(startups) = startups.upgrade() else {
                    return;
                };
                if !recorder.is_recording() {
                    return;
                }
                let waiting = startups.resources.counters().demand_reads_waiting();
                if waiting == 0 && recorder.idle() >= IDLE_GAP {
                    startups.end(&container).await;
                    return;
                }
            }
        });
    }

    /// The container is ready, or has ended: what it has touched is kept.
    pub async fn end(self: &Arc<Self>, container: &str) {
        let recording = self.lock().remove(container);
        let Some(recording) = recording else { return };
        recording.account.guide(false);
        let touched = recording.recorder.finish();
        if touched.is_empty() {
            return;
        }
        let startups = self.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let start = StartupSet::of_start(&recording.layers, touched);
            let (manifest, command) = (recording.manifest, recording.command);
            startups.store.add(manifest, command, start)
        });
        match kept.await {
            Ok(Ok(set)) => {
                tracing::info!(
                    leaves = set.leaves().len(),
                    starts = set.starts(),
                    "recorded"
                );
            }
            Ok(Err(error)) => tracing::warn!(%error, "a start-up set is not kept"),
            // The service is stopping.
            Err(_) => {}
        }
    }

    /// The container did not come about: what it has touched is not kept.
    pub fn forget(&self, container: &str) {
        if let Some(recording) = self.lock().remove(container) {
            recording.recorder.finish();
        }
    }

    /// What is to be said of the starts of a program.
    pub fn describe(&self, reference: &str, key: StartKey) -> Option<Startup> {
        let set = self.store.load(key.manifest, key.command)?;
        Some(Startup {
            reference: reference.to_owned(),
            manifest: key.manifest.to_string(),
            command: key.command.to_string(),
            starts: set.starts(),
            leaves: set.runs().iter().map(LeafRun::count).sum(),
            layers: set.layers().iter().map(Digest::to_string).collect(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Recording>> {
        self.running.lock().expect("no holder of this lock panics")
    }
}

/// The usual leaves of a set, with the positions of its layers in a mount.
fn runs_in(set: &StartupSet, open: &OpenLayers) -> Vec<LeafRun> {
    let place = |digest: &Digest| {
        open.layers
            .iter()
            .position(|layer| layer.digest() == *digest)
    };
    let places: Vec<Option<usize>> = set.layers().iter().map(place).collect();
    let placed = |run: LeafRun| {
        let layer = u32::try_from(places[run.layer as usize]?).ok()?;
        Some(LeafRun { layer, ..run })
    };
    set.runs().into_iter().filter_map(placed).collect()
}
