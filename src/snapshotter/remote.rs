//! Snapshots whose content is not here: what containerd's labels say of their image, and what
//! serves them.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::SnapshotError;
use crate::record::{Labels, Usage};

/// The chain ID under which containerd looks for what it asks for.
pub const TARGET: &str = "containerd.io/snapshot.ref";
/// Marks a snapshot that its client need not fill.
pub const REMOTE: &str = "containerd.io/snapshot/remote";
/// Value of [`REMOTE`].
pub const REMOTE_VALUE: &str = "remote snapshot";

/// The labels of the image's reference, by who sends them: containerd's CRI plugin, its transfer
/// service and nerdctl; ctr-remote and BuildKit.
const REFERENCE: [&str; 2] = [
    "containerd.io/snapshot/cri.image-ref",
    "containerd.io/snapshot/remote/stargz.reference",
];
/// The label of the manifest's digest. Only the first family has it.
const MANIFEST: &str = "containerd.io/snapshot/cri.manifest-digest";

/// The image that a snapshot is asked for, as the labels have it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct ImageLabels {
    /// The reference, as the user gave it.
    pub reference: String,
    /// Digest of the manifest that the client has chosen; none where it does not say.
    pub manifest: Option<String>,
}

impl ImageLabels {
    /// What these labels say; none where they name no image.
    pub fn of(labels: &Labels) -> Option<Self> {
        let said = |name: &str| labels.get(name).filter(|value| !value.is_empty()).cloned();
        Some(ImageLabels {
            reference: REFERENCE.into_iter().find_map(said)?,
            manifest: said(MANIFEST),
        })
    }
}

/// A snapshot's place in an image, as its record keeps it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Place {
    /// The image, as [`RemoteImages`] names it.
    pub image: String,
    /// Layers up to and with this one.
    pub layers: usize,
    /// Only indexes that are trusted by everyone may serve it: it is shared with an image that
    /// another index would have been accepted for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_guarded: bool,
}

/// A snapshot whose content is not here.
#[derive(Clone, Debug)]
pub struct RemoteSnapshot {
    /// Its directory's number.
    pub id: u64,
    /// Its place.
    pub place: Place,
    /// The image that it was asked for.
    pub labels: Option<ImageLabels>,
}

/// An image whose layers can be served as they are read.
#[derive(Clone, Debug)]
pub struct RemoteImage {
    /// Names it from now on.
    pub name: String,
    /// Chain IDs of all its layers, from the bottom up.
    pub chain_ids: Vec<String>,
    /// Layers from the bottom up that can be served so; those above are unpacked by the client.
    pub served: usize,
}

/// What is still needed.
#[derive(Clone, Debug, Default)]
pub struct Living {
    /// Images that snapshots have a place in.
    pub images: HashSet<String>,
    /// Numbers of the remote snapshots.
    pub snapshots: HashSet<u64>,
}

/// Serves images whose content is not here.
#[tonic::async_trait]
pub trait RemoteImages: Send + Sync + 'static {
    /// Resolves an image, all its layers at once; who asks meanwhile or later gets the same
    /// answer. None where it cannot be served and the client is to unpack it.
    async fn resolve(&self, image: &ImageLabels) -> Option<RemoteImage>;

    /// The snapshot of an image's highest served layer is there.
    fn complete(&self, snapshot: RemoteSnapshot);

    /// Whether a snapshot may be given to a client that asks for another image, or for none that
    /// is known. May block on files.
    fn may_share(&self, snapshot: &RemoteSnapshot, image: Option<&ImageLabels>) -> bool;

    /// Makes sure that a snapshot can be served by indexes that everyone trusts.
    ///
    /// # Errors
    /// In words, where that cannot be had now.
    async fn guard(&self, snapshot: &RemoteSnapshot) -> Result<(), String>;

    /// Where the tree of a snapshot with all that is below it is mounted; it stays so until the
    /// snapshot is gone. May block, also on the network where an index has to be had again.
    ///
    /// # Errors
    /// In words, where it cannot be mounted now.
    fn tree(&self, snapshot: &RemoteSnapshot) -> Result<PathBuf, String>;

    /// What the layer of a snapshot takes on the disk now.
    fn usage(&self, snapshot: &RemoteSnapshot) -> Usage;

    /// Lets go of everything but what `living` names, which is asked when what is held is known.
    /// False where something is still on its way out and this should be called again.
    ///
    /// # Errors
    /// Those of `living`.
    fn retain(
        &self,
        living: &dyn Fn() -> Result<Living, SnapshotError>,
    ) -> Result<bool, SnapshotError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn both_families_of_labels_name_an_image() {
        let cri = labels(&[
            ("containerd.io/snapshot/cri.image-ref", "h/a:1"),
            ("containerd.io/snapshot/cri.manifest-digest", "sha256:aa"),
            ("containerd.io/snapshot/cri.layer-digest", "sha256:bb"),
        ]);
        let found = ImageLabels::of(&cri).unwrap();
        assert_eq!(found.reference, "h/a:1");
        assert_eq!(found.manifest.as_deref(), Some("sha256:aa"));
        let stargz = labels(&[
            ("containerd.io/snapshot/remote/stargz.reference", "h/b:1"),
            ("containerd.io/snapshot/remote/stargz.digest", "sha256:bb"),
        ]);
        let found = ImageLabels::of(&stargz).unwrap();
        assert_eq!((found.reference.as_str(), found.manifest), ("h/b:1", None));
    }

    #[test]
    fn other_labels_name_none() {
        assert_eq!(ImageLabels::of(&labels(&[(TARGET, "sha256:cc")])), None);
        let empty = labels(&[("containerd.io/snapshot/cri.image-ref", "")]);
        assert_eq!(ImageLabels::of(&empty), None);
    }
}
