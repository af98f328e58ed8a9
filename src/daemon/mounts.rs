//! The mounts that this service serves: made, shared by containers, recovered, ended.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuse::{MountedTree, RequestCounts};
use index_format::{Digest, Index};

use crate::daemon::control::{Background, Failure, ImageRequest, MountStatus};
use crate::daemon::holders::{Holders, snapshot_number};
use crate::daemon::layers::{LayerBook, OpenLayers};
use crate::daemon::mounted::ImageMount;
use crate::daemon::query::failure;
use brisk_image::ResolvedImage;
use brisk_image::index_store::IndexStore;
use brisk_layer::ImageContent;
use brisk_mount::{Commands, HeldMount, KeeperLink, MountError, MountId, MountRecord, Serving};

/// A served mount with what it reads from.
struct Active {
    serving: Serving,
    image: ImageMount,
    layers: OpenLayers,
}

/// The mounts of one root.
pub struct MountBook {
    holders: Holders,
    indexes: IndexStore,
    layers: Arc<LayerBook>,
    keeper: Mutex<KeeperLink>,
    mounts: Mutex<BTreeMap<MountId, Active>>,
    requests: Arc<RequestCounts>,
    acquiring: Mutex<()>,
}

/// A directory of the user's where an image is to be mounted.
pub struct Place {
    /// The directory.
    pub directory: PathBuf,
    /// Leave out `nosuid`.
    pub suid: bool,
    /// Leave out `nodev`.
    pub dev: bool,
}

/// An image to be mounted.
pub struct Wanted<'a> {
    /// The image.
    pub image: &'a ResolvedImage,
    /// How it was asked for.
    pub request: &'a ImageRequest,
    /// What to fetch while nothing is asked for.
    pub background: Background,
    /// Not to be shared.
    pub alone: bool,
    /// Told of the layers before anything is fetched in the background.
    pub on_layers: &'a dyn Fn(&OpenLayers),
}

/// What a container got.
pub struct Acquired {
    /// The mount.
    pub directory: PathBuf,
    /// Its layers, where the mount was made for this container.
    pub new: Option<OpenLayers>,
}

impl MountBook {
    /// Connects to the keeper of the root, or starts it.
    ///
    /// # Errors
    /// Where the keeper cannot be had.
    pub fn open(
        root: &Path,
        commands: Commands,
        orphan_timeout: Option<Duration>,
        indexes: IndexStore,
        layers: Arc<LayerBook>,
    ) -> Result<Self, MountError> {
        let keeper = KeeperLink::open(&root.join("run"), commands, orphan_timeout)?;
        Ok(MountBook {
            holders: Holders::new(root),
            indexes,
            layers,
            keeper: Mutex::new(keeper),
            mounts: Mutex::default(),
            requests: Arc::default(),
            acquiring: Mutex::default(),
        })
    }

    /// Serves every mount that the keeper holds again. A mount that cannot be served is aborted,
    /// so that nobody waits for it, and does not keep the others from being served.
    ///
    /// # Errors
    /// Where the keeper cannot be asked.
    pub fn recover(self: &Arc<Self>) -> Result<(), MountError> {
        let held = self.keeper().list()?;
        for mount in held {
            let id = mount.record.id.clone();
            let directory = mount.record.directory.clone();
            if let Err(error) = self.recover_one(mount) {
                tracing::error!(directory = %directory.display(), error = error.message, "mount is lost");
                let _ = self.keeper().abort(&id);
                let _ = nix::mount::umount2(&directory, nix::mount::MntFlags::MNT_DETACH);
                let _ = self.keeper().forget(&id);
            }
        }
        let known: Vec<MountId> = self.lock().keys().cloned().collect();
        self.holders.sweep(&known);
        self.drop_stale_holders();
        Ok(())
    }

    fn recover_one(self: &Arc<Self>, mount: HeldMount) -> Result<(), Failure> {
        let image = ImageMount::of(&mount.record)?;
        let digest: Digest = image.merged_index.parse().map_err(|e| failure(&e, None))?;
        let merged = self.indexes.load_merged(digest).ok_or_else(|| Failure {
            message: format!("merged index {digest} is gone"),
            hint: None,
        })?;
        let layers = self.layers.open(&image)?;
        // What was to end when the workload is ready has ended: it was long ago.
        let background = match image.background {
            Background::Full => Background::Full,
            Background::UntilReady | Background::Off => Background::Off,
        };
        self.layers.start_background(&layers, background);
        self.serve(mount, image, merged, layers, true)
    }

    /// Mounts an image for a container, or lets it share the mount that there is.
    ///
    /// # Errors
    /// Where the kernel or the keeper refuses; nothing is left mounted then.
    pub fn acquire(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        container: &str,
    ) -> Result<Acquired, Failure> {
        let image = ImageMount {
            alone: wanted.alone,
            ..ImageMount::new(wanted.image, wanted.request, wanted.background, false)
        };
        let merged = || Ok(wanted.image.merged.clone());
        self.hold(image, container, merged, wanted.on_layers)
    }

    /// Mounts a tree for a holder, or lets it share the mount that there is; `merged` is asked
    /// for where it has to be mounted, and `on_layers` told as [`Wanted::on_layers`].
    ///
    /// # Errors
    /// As [`MountBook::acquire`], and those of `merged`.
    pub fn hold(
        self: &Arc<Self>,
        image: ImageMount,
        container: &str,
        merged: impl FnOnce() -> Result<Index, Failure>,
        on_layers: &dyn Fn(&OpenLayers),
    ) -> Result<Acquired, Failure> {
        let on_io = |error: std::io::Error| failure(&error, None);
        // One at a time, so that two containers of one image do not make two mounts.
        let _acquiring = self
            .acquiring
            .lock()
            .expect("no holder of this lock panics");
        if let Some((id, directory, layers)) = self.shared(&image) {
            self.holders.hold(&id, container).map_err(on_io)?;
            on_layers(&layers);
            return Ok(Acquired {
                directory,
                new: None,
            });
        }
        let merged = merged()?;
        let id = new_id();
        let directory = self.holders.create(&id).map_err(on_io)?;
        self.holders.hold(&id, container).map_err(on_io)?;
        let record = image.record(&id, directory, false, false);
        let mounted = self.mount(record, image, merged, on_layers);
        if mounted.is_err() {
            self.holders.remove(&id);
        }
        let (directory, layers) = mounted?;
        Ok(Acquired {
            directory,
            new: Some(layers),
        })
    }

    /// Mounts an image at a directory of the user's.
    ///
    /// # Errors
    /// Where the kernel or the keeper refuses; nothing is left mounted then.
    pub fn mount_at(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        place: &Place,
    ) -> Result<PathBuf, Failure> {
        let image = ImageMount::new(wanted.image, wanted.request, wanted.background, true);
        let id = new_id();
        self.holders
            .note_place(&id, &place.directory)
            .map_err(|e| failure(&e, None))?;
        let record = image.record(&id, place.directory.clone(), place.suid, place.dev);
        let mounted = self.mount(record, image, wanted.image.merged.clone(), wanted.on_layers);
        if mounted.is_err() {
            self.holders.remove(&id);
        }
        Ok(mounted?.0)
    }

    fn mount(
        self: &Arc<Self>,
        record: MountRecord,
        image: ImageMount,
        merged: Index,
        on_layers: &dyn Fn(&OpenLayers),
    ) -> Result<(PathBuf, OpenLayers), Failure> {
        let layers = self.layers.open(&image)?;
        let (directory, background) = (record.directory.clone(), image.background);
        let held = self.ask_keeper(|keeper| keeper.mount(&record))?;
        if let Err(error) = self.serve(held, image, merged.clone(), layers.clone(), false) {
            let _ = nix::mount::umount2(&directory, nix::mount::MntFlags::MNT_DETACH);
            let _ = self.keeper().forget(&record.id);
            return Err(error);
        }
        // Before anybody can use the mount: until then a close would wait for a server.
        if let Err(error) = fuse::settle(&merged, &directory) {
            tracing::warn!(%error, "settling a mount");
        }
        on_layers(&layers);
        self.layers.start_background(&layers, background);
        Ok((directory, layers))
    }

    fn serve(
        self: &Arc<Self>,
        held: HeldMount,
        image: ImageMount,
        merged: Index,
        layers: OpenLayers,
        resuming: bool,
    ) -> Result<(), Failure> {
        let id = held.record.id.clone();
        let tree =
            MountedTree::new(merged, layers.content.clone()).map_err(|e| failure(&e, None))?;
        let (book, ended) = (Arc::downgrade(self), id.clone());
        // Held until the mount is in the book, so that its end finds it there.
        let mut mounts = self.lock();
        let serving = Serving::start(held, tree, resuming, self.requests.clone(), move || {
            if let Some(book) = book.upgrade() {
                book.ended(&ended);
            }
        })
        .map_err(|e| failure(&e, None))?;
        mounts.insert(
            id,
            Active {
                serving,
                image,
                layers,
            },
        );
        Ok(())
    }

    /// Called by a serving thread whose mount is no more.
    fn ended(&self, id: &MountId) {
        let _ = self.keeper().forget(id);
        // Before it leaves the book: who waits for that finds everything cleared away.
        self.holders.remove(id);
        let active = self.lock().remove(id);
        // Closing its layers takes its time, and needs no lock.
        if let Some(active) = active {
            active.layers.close_complete();
        }
        tracing::info!(id = id.0, "mount ended");
    }

    /// A container holds its image no longer; the last one to let go ends the mount.
    pub fn release(&self, container: &str) {
        let held: Vec<MountId> = {
            let mounts = self.lock();
            mounts
                .keys()
                .filter(|id| self.holders.of(id).iter().any(|c| c == container))
                .cloned()
                .collect()
        };
        for id in held {
            self.holders.let_go(&id, container);
            self.end_if_unheld(&id);
        }
    }

    /// What the tree that a container holds is read through.
    pub fn content(&self, container: &str) -> Option<Arc<ImageContent>> {
        let mounts = self.lock();
        let mut held = mounts
            .iter()
            .filter(|(id, _)| self.holders.of(id).iter().any(|c| c == container));
        held.next().map(|(_, active)| active.layers.content.clone())
    }

    /// The snapshots that hold mounts.
    pub fn snapshots(&self) -> HashSet<u64> {
        let mounts = self.lock();
        let holders = mounts.keys().flat_map(|id| self.holders.of(id));
        holders.filter_map(|name| snapshot_number(&name)).collect()
    }

    fn end_if_unheld(&self, id: &MountId) {
        let mounts = self.lock();
        let Some(active) = mounts.get(id) else { return };
        if active.image.explicit || !self.holders.of(id).is_empty() {
            return;
        }
        if let Err(error) = active.serving.unmount() {
            tracing::warn!(%error, "unmounting an image that nobody holds");
        }
    }

    /// Lets go of what containers hold that are no more.
    pub fn drop_stale_holders(&self) {
        let ids: Vec<MountId> = self.lock().keys().cloned().collect();
        for id in ids {
            for container in self.holders.of(&id) {
                if self.holders.is_stale(&container) {
                    self.holders.let_go(&id, &container);
                    self.end_if_unheld(&id);
                }
            }
        }
    }

    /// Ends the mount at a user's directory.
    ///
    /// # Errors
    /// Where nothing of ours is mounted there.
    pub fn unmount(&self, directory: &Path) -> Result<(), Failure> {
        let mounts = self.lock();
        let active = mounts
            .values()
            .find(|a| a.image.explicit && a.serving.record().directory == directory)
            .ok_or_else(|| Failure {
                message: format!("{} is not a mount of this root", directory.display()),
                hint: Some("`brisk status` lists the mounts".to_owned()),
            })?;
        active.serving.unmount().map_err(|e| failure(&e, None))
    }

    /// True where the book has a mount at that directory.
    pub fn has(&self, directory: &Path) -> bool {
        self.lock()
            .values()
            .any(|active| active.serving.record().directory == directory)
    }

    /// True where a mount is on its way out: nobody holds it any more.
    pub fn has_ending(&self) -> bool {
        let mounts = self.lock();
        mounts.iter().any(|(id, active)| {
            let is_held = active.image.explicit || !self.holders.of(id).is_empty();
            active.serving.is_finished() || !is_held
        })
    }

    /// Ends every mount.
    pub fn unmount_all(&self) {
        for active in self.lock().values() {
            if let Err(error) = active.serving.unmount() {
                tracing::warn!(%error, "unmounting at the end");
            }
        }
    }

    /// How many images are mounted.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// True where nothing is mounted.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What the kernel has asked of all mounts since the service started.
    pub fn requests(&self) -> &RequestCounts {
        &self.requests
    }

    /// Reads of all mounts that have been waiting for at least `limit`.
    pub fn waiting_reads_for(&self, limit: Duration) -> u64 {
        let mounts = self.lock();
        mounts
            .values()
            .map(|active| active.serving.waiting_reads_for(limit))
            .sum()
    }

    /// Whether the keeper that holds the mounts is alive.
    pub fn has_keeper(&self) -> bool {
        !self.keeper().is_gone()
    }

    /// What is mounted, for users.
    pub fn status(&self) -> Vec<MountStatus> {
        let mounts = self.lock();
        mounts
            .values()
            .map(|active| {
                let record = active.serving.record();
                MountStatus {
                    directory: record.directory.clone(),
                    reference: active.image.reference.clone(),
                    manifest: active.image.manifest.clone(),
                    containers: self.holders.of(&record.id),
                    waiting_reads: active.serving.waiting_reads(),
                    layers: self.layers.inspect(&active.image, &active.layers),
                }
            })
            .collect()
    }

    /// What is mounted, for bookkeeping.
    pub fn images(&self) -> Vec<ImageMount> {
        self.lock()
            .values()
            .map(|active| active.image.clone())
            .collect()
    }

    /// Background fetching that was to end when the container is ready ends now.
    pub fn ready(&self, container: &str) {
        let mounts = self.lock();
        for (_, active) in mounts
            .iter()
            .filter(|(id, _)| self.holders.of(id).iter().any(|c| c == container))
        {
            self.layers.ready(&active.layers);
        }
    }

    /// Says that this service stops on purpose; what waits is left to the next one.
    pub fn leave(&self) {
        for active in self.lock().values() {
            active.serving.leave_to_successor();
        }
        if let Err(error) = self.keeper().leave() {
            tracing::warn!(%error, "telling the keeper");
        }
    }

    /// Replaces the keeper where it has died.
    pub fn watch_keeper(&self) {
        let mounts = self.lock();
        let mut keeper = self.keeper();
        if keeper.is_gone() {
            tracing::warn!("the keeper has died; starting another");
            if let Err(error) = keeper.replace(mounts.values().map(|a| a.serving.held())) {
                tracing::error!(%error, "the keeper cannot be replaced");
            }
        }
    }

    /// Asks the keeper; where it has died meanwhile, asks its successor.
    fn ask_keeper<T>(
        &self,
        ask: impl Fn(&mut KeeperLink) -> Result<T, MountError>,
    ) -> Result<T, Failure> {
        let first = ask(&mut self.keeper());
        let answer = match first {
            Err(error) if error.is_keeper_gone() => {
                self.watch_keeper();
                ask(&mut self.keeper())
            }
            other => other,
        };
        answer.map_err(|error| failure(&error, mount_hint(&error)))
    }

    /// The shared mount of an image, where there is one.
    fn shared(&self, image: &ImageMount) -> Option<(MountId, PathBuf, OpenLayers)> {
        if image.alone {
            return None;
        }
        let mounts = self.lock();
        mounts.iter().find_map(|(id, active)| {
            // A mount that nobody holds is on its way out, and one that fails helps nobody.
            let is_alive = !active.serving.is_finished()
                && !self.holders.of(id).is_empty()
                && !active.layers.has_poisoned();
            let is_shared = !active.image.explicit && !active.image.alone;
            let fits = is_shared && active.image.is_same_tree(image);
            let directory = &active.serving.record().directory;
            let found = || (id.clone(), directory.clone(), active.layers.clone());
            (is_alive && fits && is_mount_point(directory)).then(found)
        })
    }

    fn keeper(&self) -> std::sync::MutexGuard<'_, KeeperLink> {
        self.keeper.lock().expect("no holder of this lock panics")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<MountId, Active>> {
        self.mounts.lock().expect("no holder of this lock panics")
    }
}

/// True where something is mounted at a directory: a user or `umount -l` may have taken it away
/// while what had it open keeps the session alive.
fn is_mount_point(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|m| m.dev()).ok();
    match (device(directory), directory.parent().and_then(device)) {
        (Some(own), Some(above)) => own != above,
        _ => false,
    }
}

fn mount_hint(error: &MountError) -> Option<String> {
    matches!(error, MountError::Refused { .. }).then(|| {
        "FUSE is needed: `modprobe fuse`, a /dev/fuse, and root in the host's user namespace"
            .to_owned()
    })
}

/// A name that no earlier mount of this root has had.
fn new_id() -> MountId {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    MountId(format!("{time:x}-{:x}-{count:x}", std::process::id()))
}
