//! Remote snapshots: a layer that a client asks for is there before its content is.

use std::sync::Arc;

use crate::error::SnapshotError;
use crate::metadata::Lookup;
use crate::record::{Info, Kind, Labels, Moment, Record, Usage, kept};
use crate::remote::{
    ImageLabels, Place, REMOTE, REMOTE_VALUE, RemoteImage, RemoteImages, RemoteSnapshot, TARGET,
};
use crate::snapshotter::Snapshotter;

/// What is at the place that a client asks for: on this parent, under this chain ID.
enum Found {
    /// A snapshot with its content here.
    Ordinary,
    /// One that is served.
    Remote(RemoteSnapshot, String),
    /// Nothing, and what is below is ordinary: so is what comes on top of it.
    Unservable,
    /// Nothing; below is a snapshot of that chain ID, or no snapshot.
    Free(Option<String>),
}

impl Snapshotter {
    /// True where the snapshot that a client asks for by its labels is there, or is made here:
    /// the client need not fill it. False where it is to be prepared and filled.
    ///
    /// No key is used for it, so none is left behind. Of clients that ask for the same at once
    /// one makes it and the others find it.
    ///
    /// # Errors
    /// The store's; `Unavailable` where the snapshot is there, but may not be given to this
    /// client and cannot be replaced now.
    pub async fn provide(
        self: &Arc<Self>,
        parent: &str,
        labels: &Labels,
    ) -> Result<bool, SnapshotError> {
        let (Some(images), Some(target)) = (self.images().cloned(), labels.get(TARGET)) else {
            return Ok(false);
        };
        let (parent, target) = (parent.to_owned(), target.clone());
        let wanted = ImageLabels::of(labels);
        let (below, on) = (parent.clone(), target.clone());
        let found = self.blocking(move |s| s.find_place(&below, &on)).await?;
        let below = match found {
            Found::Ordinary => return Ok(true),
            Found::Unservable => return Ok(false),
            Found::Remote(snapshot, name) => {
                return self.share(images, snapshot, name, wanted).await;
            }
            Found::Free(below) => below,
        };
        let Some(wanted) = wanted else {
            return Ok(false);
        };
        let Some(image) = images.resolve(&wanted).await else {
            return Ok(false);
        };
        let Some(layers) = position(&image, &target, below.as_deref()) else {
            return Ok(false);
        };
        let place = Place {
            image: image.name,
            layers,
            is_guarded: false,
        };
        let labels = labels.clone();
        let made = self
            .blocking(move |s| s.put_remote(&target, &parent, labels, place))
            .await?;
        if let Some(snapshot) = made.filter(|_| layers == image.served) {
            images.complete(snapshot);
        }
        Ok(true)
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Snapshotter) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        let snapshotter = self.clone();
        tokio::task::spawn_blocking(move || work(&snapshotter))
            .await
            .map_err(|error| SnapshotError::Unavailable(format!("brisk is ending: {error}")))?
    }

    fn find_place(&self, parent: &str, target: &str) -> Result<Found, SnapshotError> {
        let state = self.metadata.read()?;
        if let Some(info) = committed(&state, parent, target)? {
            return Ok(match remote(&info) {
                Some(snapshot) => Found::Remote(snapshot, info.name),
                None => Found::Ordinary,
            });
        }
        if parent.is_empty() {
            return Ok(Found::Free(None));
        }
        let below = state.find(parent)?;
        Ok(match below.filter(|r| r.remote.is_some()) {
            Some(record) => {
                Found::Free(Some(record.labels.get(TARGET).cloned().unwrap_or_default()))
            }
            None => Found::Unservable,
        })
    }

    /// Gives a snapshot that is there to another client.
    async fn share(
        self: &Arc<Self>,
        images: Arc<dyn RemoteImages>,
        snapshot: RemoteSnapshot,
        name: String,
        wanted: Option<ImageLabels>,
    ) -> Result<bool, SnapshotError> {
        if snapshot.place.is_guarded {
            return Ok(true);
        }
        let (asked, known) = (images.clone(), snapshot.clone());
        let may = self
            .blocking(move |_| Ok(asked.may_share(&known, wanted.as_ref())))
            .await?;
        if may {
            return Ok(true);
        }
        images
            .guard(&snapshot)
            .await
            .map_err(SnapshotError::Unavailable)?;
        self.blocking(move |s| {
            s.metadata.write(|changes| {
                let mut record = changes.get(&name)?;
                if let Some(place) = &mut record.remote {
                    place.is_guarded = true;
                }
                changes.put(&name, &record)
            })
        })
        .await?;
        Ok(true)
    }

    /// Commits a remote snapshot; none where it is there already.
    fn put_remote(
        &self,
        target: &str,
        parent: &str,
        labels: Labels,
        place: Place,
    ) -> Result<Option<RemoteSnapshot>, SnapshotError> {
        self.metadata.write(|changes| {
            if committed(changes, parent, target)?.is_some() {
                return Ok(None);
            }
            if !parent.is_empty() && changes.get(parent)?.remote.is_none() {
                return Err(SnapshotError::not_found(parent));
            }
            let now = Moment::now();
            let id = changes.next_id()?;
            // The chain ID is the name, unless a client has given it to something else.
            let name = match changes.find(target)? {
                None => target.to_owned(),
                Some(_) => format!("{target}-{id}"),
            };
            let mut labels = kept(labels);
            labels.insert(REMOTE.to_owned(), REMOTE_VALUE.to_owned());
            let snapshot = RemoteSnapshot {
                id,
                labels: ImageLabels::of(&labels),
                place: place.clone(),
            };
            let record = Record {
                id,
                kind: Kind::Committed,
                parent: parent.to_owned(),
                labels,
                created: now,
                updated: now,
                usage: Usage::default(),
                remote: Some(place),
            };
            changes.put(&name, &record)?;
            self.directories.create(id, false, None)?;
            Ok(Some(snapshot))
        })
    }
}

/// Layers of the image up to the one with that chain ID, where it is served and stands on that
/// chain ID.
fn position(image: &RemoteImage, target: &str, below: Option<&str>) -> Option<usize> {
    let position = image.chain_ids.iter().position(|id| id == target)?;
    let expected = position.checked_sub(1).map(|p| image.chain_ids[p].as_str());
    (position < image.served && expected == below).then_some(position + 1)
}

/// The committed snapshot on that parent that was asked for under that chain ID.
fn committed(
    changes: &impl Lookup,
    parent: &str,
    target: &str,
) -> Result<Option<Info>, SnapshotError> {
    let fits = |record: &Record| {
        record.kind == Kind::Committed
            && record.parent == parent
            && record.labels.get(TARGET).is_some_and(|t| t == target)
    };
    let named = changes.find(target)?.filter(fits);
    if let Some(record) = named {
        return Ok(Some(Info {
            name: target.to_owned(),
            record,
        }));
    }
    for name in changes.children(parent)? {
        if let Some(record) = changes.find(&name)?.filter(fits) {
            return Ok(Some(Info { name, record }));
        }
    }
    Ok(None)
}

/// A snapshot's remote side, where it has one.
pub fn remote(info: &Info) -> Option<RemoteSnapshot> {
    let place = info.record.remote.clone()?;
    Some(RemoteSnapshot {
        id: info.record.id,
        place,
        labels: ImageLabels::of(&info.record.labels),
    })
}
