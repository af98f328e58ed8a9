//! The meaning of the ten calls.
//!
//! Snapshots form trees: on a committed one others are prepared (active) or viewed, and an active
//! one is committed under a new name. Every change is one transaction of [`Metadata`]; file
//! operations are ordered around it so that a crash at any point leaves a snapshot whole or not
//! there (see [`crate::directories`]). What asks [`RemoteImages`] may wait for the network:
//! making and mounting snapshots. Commit, update, list and remove never do.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::directories::Directories;
use crate::error::SnapshotError;
use crate::filter::Filters;
use crate::metadata::{Chain, Changes, Lookup, Metadata};
use crate::mounts::{Mount, MountMaker};
use crate::provide;
use crate::record::{Info, Kind, Labels, Moment, Record, Usage, kept};
use crate::remote::{Living, RemoteImages};
use crate::usage;

/// Prefix of the mask's paths that name one label.
const LABEL_PATH: &str = "labels.";

/// The snapshots of one root. Calls may come from many threads at once; they may block on files.
pub struct Snapshotter {
    pub(crate) directories: Directories,
    pub(crate) metadata: Metadata,
    maker: MountMaker,
    images: Option<Arc<dyn RemoteImages>>,
    clearing: Mutex<()>,
}

impl Snapshotter {
    /// Opens the root and brings directories and records together again. Images that can be
    /// served before their content is here are served by `images`.
    ///
    /// # Errors
    /// Files that cannot be used, or a root that another process has open.
    pub fn open(root: &Path, images: Option<Arc<dyn RemoteImages>>) -> Result<Self, SnapshotError> {
        let root = std::path::absolute(root).map_err(SnapshotError::file(root))?;
        if root.to_string_lossy().contains([':', ',', '\\']) || root.to_str().is_none() {
            return Err(SnapshotError::InvalidArgument(format!(
                "root {} contains a character that options of overlay mounts cannot hold \
                 (hint: choose a path without colon, comma and backslash, in UTF-8)",
                root.display()
            )));
        }
        let directories = Directories::open(&root)?;
        let metadata = Metadata::open(&directories.metadata())?;
        let snapshotter = Snapshotter {
            directories,
            metadata,
            maker: MountMaker::new(),
            images,
            clearing: Mutex::new(()),
        };
        snapshotter.reconcile()?;
        Ok(snapshotter)
    }

    /// What serves remote snapshots, where something does.
    pub(crate) fn images(&self) -> Option<&Arc<dyn RemoteImages>> {
        self.images.as_ref()
    }

    /// Records without a directory cannot be served, and neither can what stands on them: they
    /// go, so that containerd makes them again. Directories without a record go as well.
    fn reconcile(&self) -> Result<(), SnapshotError> {
        let mut ids = HashSet::new();
        let mut broken = Vec::new();
        self.metadata.read()?.each(|info| {
            if self.directories.is_there(info.record.id) {
                ids.insert(info.record.id);
            } else {
                broken.push(info.name);
            }
        })?;
        if !broken.is_empty() {
            let gone = self.metadata.write(|changes| drop_trees(changes, broken))?;
            for id in gone {
                ids.remove(&id);
            }
        }
        self.directories.keep_only(&ids)
    }

    /// Makes an active snapshot on a committed one, or on nothing, and tells how to mount it.
    ///
    /// # Errors
    /// `NotFound` of the parent, `InvalidArgument` where it is not committed or the key is empty,
    /// `AlreadyExists` of the key.
    pub fn prepare(
        &self,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, SnapshotError> {
        self.create(Kind::Active, key, parent, labels)
    }

    /// Makes a read-only snapshot of a committed one.
    ///
    /// # Errors
    /// As [`Snapshotter::prepare`].
    pub fn view(
        &self,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, SnapshotError> {
        self.create(Kind::View, key, parent, labels)
    }

    fn create(
        &self,
        kind: Kind,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, SnapshotError> {
        if key.is_empty() {
            return Err(SnapshotError::InvalidArgument(
                "the key is empty".to_owned(),
            ));
        }
        // Not in the transaction: mounting takes its time.
        let before = match parent {
            "" => Chain::default(),
            parent => self.metadata.read()?.chain(parent)?,
        };
        let tree = self.tree(&before)?;
        self.metadata.write(|changes| {
            let below = committed_parent(changes, parent)?;
            if changes.find(key)?.is_some() {
                return Err(SnapshotError::exists(key));
            }
            let now = Moment::now();
            let record = Record {
                id: changes.next_id()?,
                kind,
                parent: parent.to_owned(),
                labels: kept(labels),
                created: now,
                updated: now,
                usage: Usage::default(),
                remote: None,
            };
            changes.put(key, &record)?;
            let chain = changes.chain(parent)?;
            let remote_id = |chain: &Chain| chain.remote.as_ref().map(|r| r.id);
            if remote_id(&chain) != remote_id(&before) {
                // It was removed and made again meanwhile.
                return Err(SnapshotError::not_found(parent));
            }
            // Nothing but the transaction's own end can fail behind this.
            let (id, is_active) = (record.id, kind == Kind::Active);
            let nearest = chain
                .ordinary
                .first()
                .map(|id| self.directories.content(*id));
            let below = below.and(nearest.as_deref().or(tree.as_deref()));
            self.directories.create(id, is_active, below)?;
            if let (false, None, Some(tree)) = (is_active, &nearest, &tree) {
                self.directories.copy_mode(id, tree)?;
            }
            let tree = tree.as_deref();
            Ok(self.maker.mounts(&self.directories, &record, &chain, tree))
        })
    }

    /// Where the remote part of a chain is mounted; mounts it where it is not.
    fn tree(&self, chain: &Chain) -> Result<Option<PathBuf>, SnapshotError> {
        let Some(snapshot) = &chain.remote else {
            return Ok(None);
        };
        let images = self.images.as_ref().ok_or_else(|| {
            SnapshotError::Unavailable("remote snapshots are not served here".to_owned())
        })?;
        let tree = images.tree(snapshot).map_err(SnapshotError::Unavailable)?;
        Ok(Some(tree))
    }

    /// Tells how to mount an active snapshot or a view.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` of a committed one.
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>, SnapshotError> {
        let state = self.metadata.read()?;
        let record = state.get(key)?;
        if record.kind == Kind::Committed {
            return Err(SnapshotError::state(key, "is committed and has no mounts"));
        }
        let chain = state.chain(&record.parent)?;
        let tree = self.tree(&chain)?;
        let tree = tree.as_deref();
        Ok(self.maker.mounts(&self.directories, &record, &chain, tree))
    }

    /// Makes an active snapshot immutable under a name; the key is free again. Its labels are
    /// these and no others. A parent may be given where it has none.
    ///
    /// # Errors
    /// `NotFound` of the key or the parent, `AlreadyExists` of the name, `FailedPrecondition`
    /// where it is not active, `InvalidArgument` of an empty name or another parent.
    pub fn commit(
        &self,
        name: &str,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<(), SnapshotError> {
        // Not in the transaction: other calls need not wait while a large tree is walked.
        let seen = self.metadata.read()?.get(key)?;
        let usage = match seen.kind {
            Kind::Active => self.tree_usage(key, seen.id)?,
            _ => Usage::default(),
        };
        self.metadata.write(|changes| {
            let active = changes.get(key)?;
            if name.is_empty() {
                return Err(SnapshotError::InvalidArgument(
                    "the name is empty".to_owned(),
                ));
            }
            if changes.find(name)?.is_some() {
                return Err(SnapshotError::exists(name));
            }
            // A key that was removed and prepared again meanwhile was not there to be committed.
            if active.id != seen.id {
                return Err(SnapshotError::not_found(key));
            }
            if active.kind != Kind::Active {
                return Err(SnapshotError::state(key, "is not active"));
            }
            let now = Moment::now();
            let committed = Record {
                kind: Kind::Committed,
                parent: parent_at_commit(changes, &active, parent)?,
                labels: kept(labels),
                created: now,
                updated: now,
                usage,
                ..active.clone()
            };
            changes.delete(key, &active)?;
            changes.put(name, &committed)
        })
    }

    /// Takes a snapshot away on which no other stands. Its space is freed by
    /// [`Snapshotter::cleanup`].
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where others stand on it.
    pub fn remove(&self, key: &str) -> Result<(), SnapshotError> {
        let id = self.metadata.write(|changes| {
            let record = changes.get(key)?;
            if !changes.children(key)?.is_empty() {
                return Err(SnapshotError::state(
                    key,
                    "cannot be removed: others stand on it",
                ));
            }
            changes.delete(key, &record)?;
            Ok(record.id)
        })?;
        // The snapshot is gone whatever becomes of its directory: the next start sees to it.
        if let Err(error) = self.directories.retire(id) {
            tracing::warn!(%error, "a removed snapshot's directory stays until the next start");
        }
        Ok(())
    }

    /// What is known of a snapshot.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn stat(&self, name: &str) -> Result<Info, SnapshotError> {
        let record = self.metadata.read()?.get(name)?;
        Ok(Info {
            name: name.to_owned(),
            record,
        })
    }

    /// Changes labels: those that the mask names (`labels.KEY`; one that is not given goes), or
    /// all of them (`labels`, or no mask). Nothing else can be changed.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` where the mask names something else.
    pub fn update(
        &self,
        name: &str,
        labels: &Labels,
        mask: &[String],
    ) -> Result<Info, SnapshotError> {
        self.metadata.write(|changes| {
            let mut record = changes.get(name)?;
            if mask.is_empty() {
                record.labels = labels.clone();
            }
            for path in mask {
                if path == "labels" {
                    record.labels = labels.clone();
                } else if let Some(label) = path.strip_prefix(LABEL_PATH) {
                    let value = labels.get(label).cloned().unwrap_or_default();
                    record.labels.insert(label.to_owned(), value);
                } else {
                    return Err(SnapshotError::InvalidArgument(format!(
                        "field {path:?} of snapshot {name:?} cannot be changed (hint: labels can)"
                    )));
                }
            }
            record.labels = kept(record.labels);
            record.updated = Moment::now();
            changes.put(name, &record)?;
            Ok(Info {
                name: name.to_owned(),
                record,
            })
        })
    }

    /// The snapshots that pass, in the order of names, from one consistent state.
    ///
    /// # Errors
    /// The store's.
    pub fn list(&self, filters: &Filters) -> Result<Vec<Info>, SnapshotError> {
        let mut found = Vec::new();
        self.metadata.read()?.each(|info| {
            if filters.pass(&info) {
                found.push(info);
            }
        })?;
        Ok(found)
    }

    /// What a snapshot takes without its parents: of an active one now, of a committed one when
    /// it was committed; of a view nothing; of a remote one what of its layer is here now.
    ///
    /// # Errors
    /// `NotFound`, or files that cannot be read.
    pub fn usage(&self, key: &str) -> Result<Usage, SnapshotError> {
        let info = self.stat(key)?;
        match (&self.images, provide::remote(&info)) {
            (Some(images), Some(snapshot)) => Ok(images.usage(&snapshot)),
            _ if info.record.kind == Kind::Active => self.tree_usage(key, info.record.id),
            _ => Ok(info.record.usage),
        }
    }

    fn tree_usage(&self, key: &str, id: u64) -> Result<Usage, SnapshotError> {
        match usage::of_tree(&self.directories.content(id)) {
            // It was removed while it was looked at.
            Err(_) if !self.directories.is_there(id) => Err(SnapshotError::not_found(key)),
            other => other,
        }
    }

    /// Frees what removed snapshots still take. False where something is on its way out.
    ///
    /// # Errors
    /// The first directory that cannot be freed, after all others are.
    pub fn cleanup(&self) -> Result<bool, SnapshotError> {
        let _one = self
            .clearing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let cleared = self.directories.clear();
        let is_done = match &self.images {
            Some(images) => images.retain(&|| self.living())?,
            None => true,
        };
        cleared.map(|()| is_done)
    }

    /// What the remote snapshots need.
    fn living(&self) -> Result<Living, SnapshotError> {
        let mut living = Living::default();
        self.metadata.read()?.each(|info| {
            if let Some(place) = info.record.remote {
                living.images.insert(place.image);
                living.snapshots.insert(info.record.id);
            }
        })?;
        Ok(living)
    }
}

/// The parent's record, which must be committed; none where there is no parent.
fn committed_parent(changes: &Changes, parent: &str) -> Result<Option<Record>, SnapshotError> {
    if parent.is_empty() {
        return Ok(None);
    }
    let record = changes.get(parent)?;
    if record.kind != Kind::Committed {
        return Err(SnapshotError::InvalidArgument(format!(
            "parent {parent:?} is not committed"
        )));
    }
    Ok(Some(record))
}

/// The parent of a snapshot that is committed with this one.
fn parent_at_commit(
    changes: &Changes,
    active: &Record,
    parent: &str,
) -> Result<String, SnapshotError> {
    if parent.is_empty() || parent == active.parent {
        return Ok(active.parent.clone());
    }
    if !active.parent.is_empty() {
        return Err(SnapshotError::InvalidArgument(format!(
            "the snapshot stands on {:?} and cannot be committed on {parent:?}",
            active.parent
        )));
    }
    committed_parent(changes, parent)?;
    Ok(parent.to_owned())
}

/// Deletes the records of these snapshots and of all that stand on them; gives their ids.
fn drop_trees(changes: &Changes, mut names: Vec<String>) -> Result<Vec<u64>, SnapshotError> {
    let mut ids = Vec::new();
    while let Some(name) = names.pop() {
        let Some(record) = changes.find(&name)? else {
            continue;
        };
        tracing::warn!(
            snapshot = name,
            "its directory or one below it is gone: the snapshot is given up"
        );
        names.extend(changes.children(&name)?);
        changes.delete(&name, &record)?;
        ids.push(record.id);
    }
    Ok(ids)
}
