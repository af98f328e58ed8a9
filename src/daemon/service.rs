//! The service: carries out what clients ask, on one root.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::daemon::auto_publish::AutoPublish;
use crate::daemon::catalog::Catalog;
use crate::daemon::config::Config;
use crate::daemon::layers::LayerBook;
use crate::daemon::metrics::CallStatistics;
use crate::daemon::mounts::MountBook;
use crate::daemon::promotion::Promotion;
use crate::daemon::query::Queries;
use crate::daemon::remote::documents::Documents;
use crate::daemon::remote::images::{Parts, ServedImages};
use crate::daemon::startups::Startups;
use crate::daemon::timeline::Timelines;
use brisk_cache::{Budget, Cache, CacheError};
use brisk_image::Resolver;
use brisk_image::index_store::IndexStore;
use brisk_image::pull::Puller;
use brisk_image::startup::StartupStore;
use brisk_image::store::ImageStore;
use brisk_layer::Resources;
use brisk_mount::{Commands, MountError};

mod packing;
mod requests;
mod status;

/// A service without mounts and clients ends after this time: long enough for the next command
/// of a script, short enough to leave nothing running.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// A service that holds the cache without the root's lock is at its end and needs less than this:
/// what is left is the kernel's closing of its files.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(10);

/// The service of one root.
pub struct Service {
    config: Config,
    queries: Arc<Queries>,
    resolver: Resolver,
    publishing: Arc<AutoPublish>,
    catalog: Arc<Catalog>,
    remote: Arc<ServedImages>,
    cache: Cache,
    layers: Arc<LayerBook>,
    mounts: Arc<MountBook>,
    startups: Arc<Startups>,
    timelines: Timelines,
    resources: Arc<Resources>,
    calls: Arc<CallStatistics>,
    clients: AtomicU64,
    idle_since: Mutex<Instant>,
    stopping: AtomicBool,
    unmount_at_end: AtomicBool,
    stop: Notify,
}

/// Why a service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cache cannot be opened.
    #[error(transparent)]
    Cache(#[from] brisk_cache::CacheError),
    /// The keeper cannot be had.
    #[error(transparent)]
    Mount(#[from] MountError),
}

impl Service {
    /// Opens the root and serves every mount that its keeper holds.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn open(root: &Path, config: Config, commands: Commands) -> Result<Arc<Self>, StartError> {
        let budget = match config.cache.budget {
            Some(size) => Budget::Bytes(size.0),
            None => Budget::default(),
        };
        let cache = open_cache(&root.join("layers"), budget)?;
        let indexes = IndexStore::new(root);
        let images = ImageStore::new(root);
        let queries = Arc::new(Queries::new(config.clone()));
        let resources = Resources::new(tokio::runtime::Handle::current());
        let layers = Arc::new(LayerBook::new(
            cache.clone(),
            indexes.clone(),
            queries.clone(),
            resources.clone(),
            &config.fetch,
            Promotion::new(cache.clone(), indexes.clone(), images.clone()),
        ));
        let mounts = Arc::new(MountBook::open(
            root,
            commands,
            config.service.orphan_timeout.limit(),
            indexes.clone(),
            layers.clone(),
        )?);
        mounts.recover()?;
        let resolver = Resolver {
            images: images.clone(),
            indexes: indexes.clone(),
            puller: Puller::new(
                cache.clone(),
                indexes.clone(),
                config.limits.index_options(),
            ),
            refusals: Arc::default(),
        };
        let startups = Startups::new(StartupStore::new(root), resources.clone());
        let publishing = AutoPublish::new(root, config.clone(), images.clone(), indexes.clone());
        let documents = Documents::new(root);
        let catalog = Arc::new(Catalog::new(
            images,
            indexes.clone(),
            startups.store().clone(),
            cache.clone(),
            mounts.clone(),
            documents.clone(),
        ));
        let remote = ServedImages::new(Parts {
            documents,
            resolver: resolver.clone(),
            queries: queries.clone(),
            indexes,
            layers: layers.clone(),
            mounts: mounts.clone(),
            catalog: catalog.clone(),
            runtime: tokio::runtime::Handle::current(),
            without_index: config.snapshotter.without_index,
            background: config.fetch.background,
        });
        Ok(Arc::new(Service {
            remote,
            config,
            queries,
            resolver,
            publishing,
            catalog,
            cache,
            layers,
            mounts,
            startups,
            timelines: Timelines::default(),
            resources,
            calls: Arc::default(),
            clients: AtomicU64::new(0),
            idle_since: Mutex::new(Instant::now()),
            stopping: AtomicBool::new(false),
            unmount_at_end: AtomicBool::new(false),
            stop: Notify::new(),
        }))
    }

    /// What serves containerd's remote snapshots.
    pub fn remote_images(&self) -> Arc<ServedImages> {
        self.remote.clone()
    }

    /// Counts a client until the value is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.clients.fetch_add(1, Ordering::SeqCst);
        Busy {
            service: self.clone(),
        }
    }

    /// Asks the service to stop.
    pub fn request_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.notify_waiters();
    }

    /// Every mount is taken down when the service ends.
    pub fn unmount_at_end(&self) {
        self.unmount_at_end.store(true, Ordering::SeqCst);
    }

    /// Ready when the service is to stop.
    pub async fn stopped(&self) {
        let notified = self.stop.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if !self.stopping.load(Ordering::SeqCst) {
            notified.await;
        }
    }

    /// Looks after the keeper and stale holders; true when nothing has needed the service for
    /// [`IDLE_LIMIT`].
    pub fn look_after(&self) -> bool {
        self.mounts.watch_keeper();
        self.mounts.drop_stale_holders();
        let is_idle = self.mounts.is_empty()
            && self.clients.load(Ordering::SeqCst) == 0
            && !self.publishing.is_under_way();
        let mut since = self
            .idle_since
            .lock()
            .expect("no holder of this lock panics");
        if !is_idle {
            *since = Instant::now();
        }
        since.elapsed() >= IDLE_LIMIT
    }

    /// Ends the service's work: mounts are taken down where that was asked for, else left to the
    /// keeper.
    pub async fn finish(self: &Arc<Self>) {
        // The client that asked for the stop is to hear that it is done.
        let limit = Instant::now() + Duration::from_secs(5);
        let wait = |done: &dyn Fn() -> bool| !done() && Instant::now() < limit;
        if self.unmount_at_end.load(Ordering::SeqCst) {
            self.mounts.unmount_all();
            while wait(&|| self.mounts.is_empty()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        while wait(&|| self.clients.load(Ordering::SeqCst) == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.mounts.leave();
    }
}

/// A client whose request is being carried out.
pub struct Busy {
    service: Arc<Service>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let service = &self.service;
        service.clients.fetch_sub(1, Ordering::SeqCst);
        *service
            .idle_since
            .lock()
            .expect("no holder of this lock panics") = Instant::now();
    }
}

/// Opens the cache; waits for a service that has given up the root but not ended yet.
fn open_cache(directory: &Path, budget: Budget) -> Result<Cache, CacheError> {
    let started = Instant::now();
    loop {
        match Cache::open(directory, budget) {
            Err(CacheError::Locked { .. }) if started.elapsed() < PREDECESSOR_LIMIT => {}
            other => return other,
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "another process's end has no event here"
        )]
        std::thread::sleep(Duration::from_millis(2));
    }
}
