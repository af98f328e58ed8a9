//! What clients ask, carried out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::daemon::catalog::Catalog;
use crate::daemon::control::{
    Background, Failure, ImageRequest, Inspection, MountedImage, Outcome, Program, Request,
};
use crate::daemon::early::{self, EarlyPack};
use crate::daemon::holders::is_container_name;
use crate::daemon::layers::{LayerBook, OpenLayers};
use crate::daemon::mounted::ImageMount;
use crate::daemon::mounts::{Place, Wanted};
use crate::daemon::query::{failure, image_failure};
use crate::daemon::service::Service;
use crate::daemon::startups::StartKey;
use crate::daemon::timeline::Stopwatch;
use brisk_container::spec::entrypoint;
use brisk_container::spec::environment::DEFAULT_PATH;
use brisk_image::{Observer, Query, ResolvedImage, pack};
use brisk_layer::{PackDownload, fetch_before_exec};

/// How long `umount` waits until everything of the mount is cleared away.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(2);

/// How long a removal waits for what is being let go of: comparing a layer of some gigabytes
/// with its diff ID ends within it.
const LETTING_GO_LIMIT: Duration = Duration::from_secs(30);

impl Service {
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
            Request::Acquire {
                image,
                container,
                program,
            } => self.acquire(image, container, program, &observer).await,
            Request::Release { container } => {
                self.startups.end(&container).await;
                self.timelines.end(&container);
                let mounts = self.mounts.clone();
                off_the_reactor(move || mounts.release(&container)).await?;
                Ok(Outcome::Nothing)
            }
            Request::Ready { container } => {
                self.mounts.ready(&container);
                self.startups.end(&container).await;
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
            Request::DescribeStartup { image, program } => {
                let image = self.resolve(&image, false, &observer).await?;
                let key = start_key(&image, &program)?;
                let reference = &image.record.reference;
                let startup = key.and_then(|key| self.startups.describe(reference, key));
                Ok(Outcome::Startup { startup })
            }
            Request::PushPack { image, program } => {
                self.push_pack(&image, &program, &observer).await
            }
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
            Request::Timeline { container } => match self.timelines.of(&container) {
                Some(timeline) => Ok(Outcome::Timeline(Box::new(timeline))),
                None => Err(Failure {
                    message: format!("nothing is known of a start of container {container}"),
                    hint: None,
                }),
            },
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
            self.startups.forget(container);
            self.timelines.end(container);
            let (mounts, container) = (self.mounts.clone(), container.clone());
            let _ = off_the_reactor(move || mounts.release(&container)).await;
        }
    }

    async fn acquire(
        self: &Arc<Self>,
        request: ImageRequest,
        container: String,
        program: Program,
        observer: &Arc<dyn Observer>,
    ) -> Result<Outcome, Failure> {
        if !is_container_name(&container) {
            let message = format!("{container:?} is not the name of a container");
            return Err(Failure {
                message,
                hint: None,
            });
        }
        let watch = Stopwatch::start(observer.clone());
        let observer: Arc<dyn Observer> = watch.clone();
        let query = self.queries.query(&request, false)?;
        let early = EarlyPack::new(&observer, query.clone(), &program, &self.cache);
        let listening: Arc<dyn Observer> = early.clone();
        let image = self.resolve(&request, false, &listening).await?;
        let resolved = Instant::now();
        let background = self.background(&request);
        let service = self.clone();
        let (mounts, startups) = (self.mounts.clone(), self.startups.clone());
        off_the_reactor(move || {
            let key = start_key(&image, &program)?;
            let on_layers = |open: &OpenLayers| {
                if let Some(key) = key {
                    let attached = || attached_pack(&query, &image, key);
                    startups.prefetch(key, open, early.take(), attached);
                }
            };
            let wanted = Wanted {
                image: &image,
                request: &request,
                background,
                alone: program.alone,
                on_layers: &on_layers,
            };
            let acquired = mounts.acquire(&wanted, &container)?;
            if let (Some(open), Some(key)) = (&acquired.new, key) {
                startups.begin(key, &container, open, program.told_when_ready);
            }
            if let Some(open) = &acquired.new {
                service.fetch_before_exec(&image, &program, open);
            }
            if let Some(content) = mounts.content(&container) {
                let marks = watch.mounted(resolved);
                let is_shared = acquired.new.is_none();
                let timelines = &service.timelines;
                timelines.begin(&container, marks, content, is_shared);
            }
            Ok(mounted(&image, acquired.directory))
        })
        .await?
    }

    /// Fetches what starting the program will read, while its container is being made.
    fn fetch_before_exec(&self, image: &ResolvedImage, program: &Program, open: &OpenLayers) {
        let config = image.config.config().clone().unwrap_or_default();
        let arguments = entrypoint::combine(
            config.entrypoint().as_deref().unwrap_or_default(),
            config.cmd().as_deref().unwrap_or_default(),
            program.entrypoint.as_deref(),
            &program.command,
        );
        let tree = fuse::MountedTree::new(image.merged.clone(), open.content.clone());
        let (Some(arguments), Ok(tree)) = (arguments, tree) else {
            return;
        };
        let content = open.content.clone();
        self.resources.runtime().spawn(async move {
            let variables = config.env().as_deref().unwrap_or_default();
            let mut variables = variables.iter().map(String::as_str).chain([DEFAULT_PATH]);
            let path = variables.find_map(|variable| variable.strip_prefix("PATH="));
            let path = path.unwrap_or_default();
            let directory = config.working_dir().as_deref().unwrap_or("/");
            fetch_before_exec(&tree, &content, &arguments, path, directory).await;
        });
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
                alone: true,
                on_layers: &|_| {},
            };
            let directory = mounts.mount_at(&wanted, &place)?;
            Ok(mounted(&image, directory))
        })
        .await?
    }

    pub(super) async fn resolve(
        &self,
        request: &ImageRequest,
        refresh: bool,
        observer: &Arc<dyn Observer>,
    ) -> Result<ResolvedImage, Failure> {
        for note in self.publishing.take_notes() {
            observer.warn(note);
        }
        let query = self.queries.query(request, refresh)?;
        let _single = self.catalog.resolving(&query.reference).await;
        let resolved = self.resolver.resolve(&query, observer).await;
        let image = resolved.map_err(|e| image_failure(&e))?;
        self.publishing.consider(&query, &image);
        Ok(image)
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
            Err(reason) => LayerBook::inspect_unindexed(&descriptor, reason.words),
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
        let sweep = || match self.catalog.sweeping() {
            Some(alone) => self.catalog.sweep(&alone).map(Some),
            None => Ok(None),
        };
        let mut in_use = sweep()?;
        while in_use != Some(0) && Instant::now() < limit {
            pause().await;
            in_use = sweep()?;
        }
        match in_use {
            Some(0) => {}
            Some(layers) => observer.warn(format!(
                "{layers} layers are still being fetched or compared and stay; `brisk prune` \
                 drops them later"
            )),
            None => observer.warn(
                "images are still being resolved, so nothing was dropped; `brisk prune` does it \
                 later"
                    .to_owned(),
            ),
        }
        Ok(Outcome::Freed {
            bytes: before.saturating_sub(self.cache.usage().used_bytes),
            images,
        })
    }

    fn background(&self, request: &ImageRequest) -> Background {
        request.background.unwrap_or(self.config.fetch.background)
    }
}

/// The start of a program of an image; none where neither names one.
pub(super) fn start_key(
    image: &ResolvedImage,
    program: &Program,
) -> Result<Option<StartKey>, Failure> {
    let manifest = image.record.manifest.parse();
    let manifest = manifest.map_err(|e: index_format::DigestError| failure(&e, None))?;
    Ok(StartKey::new(manifest, &image.config, program))
}

/// The pack that an image is known to have, which is asked for its table first.
fn attached_pack(query: &Query, image: &ResolvedImage, key: StartKey) -> Option<PackDownload> {
    let place = pack::choose(&image.record.packs, key.command)?;
    early::download(query, place, false)
        .inspect_err(|error| tracing::warn!(%error, "a pack cannot be read"))
        .ok()
        .flatten()
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
