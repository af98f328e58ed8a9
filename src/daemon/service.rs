//! The service: carries out what clients ask, on one root.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::daemon::catalog::Catalog;
use crate::daemon::config::Config;
use crate::daemon::control::{
    Background, Counters, Failure, ImageRequest, Inspection, MountedImage, Outcome, Request, Status,
};
use crate::daemon::holders::is_container_name;
use crate::daemon::layers::LayerBook;
use crate::daemon::mounted::ImageMount;
use crate::daemon::mounts::{MountBook, Place, Wanted};
use crate::daemon::promotion::Promotion;
use crate::daemon::query::{Queries, failure, image_failure};
use brisk_cache::{Budget, Cache, CacheError};
use brisk_image::index_store::IndexStore;
use brisk_image::pull::Puller;
use brisk_image::store::ImageStore;
use brisk_image::{Observer, ResolvedImage, Resolver};
use brisk_layer::{Cause, Resources};
use brisk_mount::{Commands, MountError};

/// A service without mounts and clients ends after this time: long enough for the next command
/// of a script, short enough to leave nothing running.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// A service that holds the cache without the root's lock is at its end and needs less than this:
/// what is left is the kernel's closing of its files.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(10);

/// How long `umount` waits until everything of the mount is cleared away.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(2);

/// How long a removal waits for what is being let go of: comparing a layer of some gigabytes
/// with its diff ID ends within it.
const LETTING_GO_LIMIT: Duration = Duration::from_secs(30);

/// The service of one root.
pub struct Service {
    config: Config,
    queries: Arc<Queries>,
    resolver: Resolver,
    catalog: Catalog,
    cache: Cache,
    layers: Arc<LayerBook>,
    mounts: Arc<MountBook>,
    resources: Arc<Resources>,
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
            config.fetch.on_outage,
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
        };
        let catalog = Catalog::new(images, indexes, cache.clone(), mounts.clone());
        Ok(Arc::new(Service {
            config,
            queries,
            resolver,
            catalog,
            cache,
            layers,
            mounts,
            resources,
            clients: AtomicU64::new(0),
            idle_since: Mutex::new(Instant::now()),
            stopping: AtomicBool::new(false),
            unmount_at_end: AtomicBool::new(false),
            stop: Notify::new(),
        }))
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// In words for the user; nothing half-done is left.
    pub async fn carry_out(
        self: &Arc<Self>,
        request: Request,
        observer: Arc<dyn Observer>,
    ) -> Result<Outcome, Failure> {
        match request {
            Request::Acquire { image, container } => {
                self.acquire(image, container, &observer).await
            }
            Request::Release { container } => {
                let mounts = self.mounts.clone();
                off_the_reactor(move || mounts.release(&container)).await?;
                Ok(Outcome::Nothing)
            }
            Request::Ready { container } => {
                self.mounts.ready(&container);
                Ok(Outcome::Nothing)
            }
            Request::Mount {
                image,
                directory,
                suid,
                dev,
            } => {
                self.mount(
                    image,
                    Place {
                        directory,
                        suid,
                        dev,
                    },
                    &observer,
                )
                .await
            }
            Request::Unmount { directory } => {
                self.mounts.unmount(&directory)?;
                // What still has the tree open keeps it: that is not waited for.
                let limit = Instant::now() + UNMOUNT_LIMIT;
                while self.mounts.has(&directory) && Instant::now() < limit {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(Outcome::Nothing)
            }
            Request::Inspect { image } => self.inspect(&image, &observer).await,
            Request::Pull { image } => self.pull(&image, &observer).await,
            Request::Images => Ok(Outcome::Images {
                images: self.catalog.rows(),
            }),
            Request::RemoveImage { reference } => {
                let remove = |catalog: &Catalog| catalog.remove(&reference);
                self.clear_away(remove, &observer).await
            }
            Request::Prune { all } => {
                let forget = |catalog: &Catalog| match all {
                    true => catalog.remove_unmounted(),
                    false => Ok(Vec::new()),
                };
                self.clear_away(forget, &observer).await
            }
            Request::Status => Ok(Outcome::Status(Box::new(self.status()))),
            Request::Stop { unmount } => {
                self.unmount_at_end.store(unmount, Ordering::SeqCst);
                self.request_stop();
                Ok(Outcome::Nothing)
            }
        }
    }

    /// Takes back what a request did whose client did not live to hear of it.
    pub async fn undo(self: &Arc<Self>, request: &Request) {
        if let Request::Acquire { container, .. } = request {
            let (mounts, container) = (self.mounts.clone(), container.clone());
            let _ = off_the_reactor(move || mounts.release(&container)).await;
        }
    }

    async fn acquire(
        self: &Arc<Self>,
        request: ImageRequest,
        container: String,
        observer: &Arc<dyn Observer>,
    ) -> Result<Outcome, Failure> {
        if !is_container_name(&container) {
            let message = format!("{container:?} is not the name of a container");
            return Err(Failure {
                message,
                hint: None,
            });
        }
        let image = self.resolve(&request, false, observer).await?;
        let background = self.background(&request);
        let mounts = self.mounts.clone();
        off_the_reactor(move || {
            let wanted = Wanted {
                image: &image,
                request: &request,
                background,
            };
            let directory = mounts.acquire(&wanted, &container)?;
            Ok(mounted(&image, directory))
        })
        .await?
    }

    async fn mount(
        self: &Arc<Self>,
        request: ImageRequest,
        place: Place,
        observer: &Arc<dyn Observer>,
    ) -> Result<Outcome, Failure> {
        check_mount_point(&place.directory)?;
        let image = self.resolve(&request, false, observer).await?;
        let background = self.background(&request);
        let mounts = self.mounts.clone();
        off_the_reactor(move || {
            let wanted = Wanted {
                image: &image,
                request: &request,
                background,
            };
            let directory = mounts.mount_at(&wanted, &place)?;
            Ok(mounted(&image, directory))
        })
        .await?
    }

    async fn resolve(
        &self,
        request: &ImageRequest,
        refresh: bool,
        observer: &Arc<dyn Observer>,
    ) -> Result<ResolvedImage, Failure> {
        let query = self.queries.query(request, refresh)?;
        let _single = self.catalog.resolving(&query.reference).await;
        self.resolver
            .resolve(&query, observer)
            .await
            .map_err(|e| image_failure(&e))
    }

    async fn inspect(
        &self,
        request: &ImageRequest,
        observer: &Arc<dyn Observer>,
    ) -> Result<Outcome, Failure> {
        let query = self.queries.query(request, false)?;
        let (digest, layers) = self
            .resolver
            .inspect(&query, observer)
            .await
            .map_err(|e| image_failure(&e))?;
        let layers = layers.into_iter().map(|(descriptor, found)| match found {
            Ok(layer) => self.layers.inspect_resolved(&layer),
            Err(reason) => LayerBook::inspect_unindexed(&descriptor, reason),
        });
        Ok(Outcome::Inspected(Inspection {
            reference: query.reference,
            digest: digest.to_string(),
            platform: query.platform.to_string(),
            layers: layers.collect(),
        }))
    }

    async fn pull(
        &self,
        request: &ImageRequest,
        observer: &Arc<dyn Observer>,
    ) -> Result<Outcome, Failure> {
        let image = self.resolve(request, true, observer).await?;
        let image = ImageMount::new(&image, request, Background::Full, false);
        self.layers.fetch_whole(&image, observer).await?;
        Ok(Outcome::Nothing)
    }

    /// Forgets images and drops what nothing uses any more. What is just being let go of, the
    /// mount and the layers of a container that has ended, is waited for.
    async fn clear_away(
        &self,
        forget: impl FnOnce(&Catalog) -> Result<Vec<String>, Failure>,
        observer: &Arc<dyn Observer>,
    ) -> Result<Outcome, Failure> {
        let limit = Instant::now() + LETTING_GO_LIMIT;
        let pause = || tokio::time::sleep(Duration::from_millis(10));
        self.mounts.drop_stale_holders();
        while self.mounts.has_ending() && Instant::now() < limit {
            pause().await;
        }
        let before = self.cache.usage().used_bytes;
        let images = forget(&self.catalog)?;
        let mut in_use = self.catalog.sweep()?;
        while in_use > 0 && Instant::now() < limit {
            pause().await;
            in_use = self.catalog.sweep()?;
        }
        if in_use > 0 {
            observer.warn(format!(
                "{in_use} layers are still being fetched or compared and stay; `brisk prune` \
                 drops them later"
            ));
        }
        Ok(Outcome::Freed {
            bytes: before.saturating_sub(self.cache.usage().used_bytes),
            images,
        })
    }

    fn background(&self, request: &ImageRequest) -> Background {
        request.background.unwrap_or(self.config.fetch.background)
    }

    fn status(&self) -> Status {
        let counters = self.resources.counters();
        let usage = self.cache.usage();
        let (metadata_bytes, requests) = self.queries.trips();
        let fetched = Cause::ALL.map(|cause| counters.fetched_bytes(cause));
        let [demand_bytes, read_ahead_bytes, background_bytes] = fetched;
        let mounts = self.mounts.status();
        Status {
            pid: std::process::id(),
            counters: Counters {
                waiting_reads: counters.demand_reads_waiting(),
                demand_bytes,
                read_ahead_bytes,
                background_bytes,
                // The clients count every byte that arrived, layers' bytes included.
                metadata_bytes: metadata_bytes.saturating_sub(fetched.iter().sum()),
                requests,
                verification_failures: counters.verification_failures(),
            },
            mounts,
            cache_bytes: usage.used_bytes,
            cache_budget: usage.limit_bytes,
            orphan_timeout: self.config.service.orphan_timeout.to_string(),
        }
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
        let is_idle = self.mounts.is_empty() && self.clients.load(Ordering::SeqCst) == 0;
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

fn mounted(image: &ResolvedImage, directory: PathBuf) -> Outcome {
    Outcome::Mounted(MountedImage {
        reference: image.record.reference.clone(),
        manifest: image.record.manifest.clone(),
        directory,
        config: String::from_utf8_lossy(&image.config_bytes).into_owned(),
    })
}

/// A mount point is an existing directory, empty, named by its whole path.
fn check_mount_point(directory: &Path) -> Result<(), Failure> {
    let refuse = |message: String| {
        Err(Failure {
            message,
            hint: Some("name an existing empty directory".to_owned()),
        })
    };
    if !directory.is_absolute() {
        return refuse(format!(
            "mount point {} is not absolute",
            directory.display()
        ));
    }
    match std::fs::read_dir(directory) {
        Err(error) => refuse(format!("mount point {}: {error}", directory.display())),
        Ok(mut entries) => match entries.next() {
            Some(_) => refuse(format!("mount point {} is not empty", directory.display())),
            None => Ok(()),
        },
    }
}

/// Runs what blocks where it may block.
async fn off_the_reactor<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| failure(&e, None))
}
