//! What a mount's record says of its image: enough to serve it again without the network.

use std::path::PathBuf;

use index_format::Digest;
use serde::{Deserialize, Serialize};

use crate::daemon::control::{Background, Failure, ImageRequest};
use brisk_image::document::{self, LayerDescriptor};
use brisk_image::store::LayerDecision;
use brisk_image::{ResolvedImage, ResolvedLayer};
use brisk_mount::{MountId, MountRecord};

/// One layer of a mounted image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedLayer {
    /// Compressed size in bytes.
    pub size: u64,
    /// Diff ID that the image config binds.
    pub diff_id: String,
    /// Media type, as the manifest has it.
    pub media_type: String,
    /// The index that the mount was built with, and whose it is.
    pub decision: LayerDecision,
}

impl MountedLayer {
    /// What is to be remembered of a layer.
    pub fn of(layer: &ResolvedLayer) -> Self {
        MountedLayer {
            size: layer.descriptor.size,
            diff_id: layer.descriptor.diff_id.to_string(),
            media_type: layer.descriptor.media_type.clone(),
            decision: layer.decision.clone(),
        }
    }

    /// The layer as its manifest describes it.
    ///
    /// # Errors
    /// Where the record is not one of ours.
    pub fn descriptor(&self) -> Result<LayerDescriptor, Failure> {
        let digest = |text: &str| text.parse::<Digest>().map_err(|_| damaged(text));
        Ok(LayerDescriptor {
            digest: digest(&self.decision.layer)?,
            size: self.size,
            media_type: self.media_type.clone(),
            compression: document::compression(&self.media_type)
                .ok_or_else(|| damaged(&self.media_type))?,
            diff_id: digest(&self.diff_id)?,
        })
    }
}

/// A mounted image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageMount {
    /// How the image was asked for: where its bytes and the credentials for them come from.
    pub request: ImageRequest,
    /// The reference, normalised.
    pub reference: String,
    /// Digest of the image manifest.
    pub manifest: String,
    /// Identity of the merged index: adopting with another one is refused, since the kernel's
    /// cached inode numbers would name other files.
    pub merged_index: String,
    /// The layers from the bottom up.
    pub layers: Vec<MountedLayer>,
    /// A user's own directory rather than one shared by containers.
    pub explicit: bool,
    /// One container's alone rather than shared.
    #[serde(default)]
    pub alone: bool,
    /// What background fetching this mount asked for.
    pub background: Background,
}

impl ImageMount {
    /// What is to be remembered of a mount of `image`.
    pub fn new(
        image: &ResolvedImage,
        request: &ImageRequest,
        background: Background,
        explicit: bool,
    ) -> Self {
        ImageMount {
            request: request.clone(),
            reference: image.record.reference.clone(),
            manifest: image.record.manifest.clone(),
            merged_index: image.merged.digest().to_string(),
            layers: image.layers.iter().map(MountedLayer::of).collect(),
            explicit,
            alone: false,
            background,
        }
    }

    /// The keeper's record of it.
    pub fn record(&self, id: &MountId, directory: PathBuf, suid: bool, dev: bool) -> MountRecord {
        MountRecord {
            id: id.clone(),
            directory,
            label: self.reference.clone(),
            suid,
            dev,
            // Plain data of ours: strings, numbers and lists always have a JSON form.
            content: serde_json::to_value(self).unwrap_or_default(),
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Where the record is not one of ours.
    pub fn of(record: &MountRecord) -> Result<Self, Failure> {
        serde_json::from_value(record.content.clone()).map_err(|e| damaged(&e.to_string()))
    }

    /// True where `other` reads the same bytes by the same indexes, so that they can share a
    /// mount.
    ///
    /// A merged index names the indexes it is made of. One of them that is trusted by now, since
    /// its layer has been compared with its diff ID, serves every repository; one that is not
    /// serves only its own.
    pub fn is_same_tree(&self, other: &ImageMount) -> bool {
        let shares = |one: &MountedLayer, other: &MountedLayer| {
            let (one, other) = (&one.decision.repository, &other.decision.repository);
            one == other || one.is_none() || other.is_none()
        };
        self.merged_index == other.merged_index
            && self.layers.len() == other.layers.len()
            && self
                .layers
                .iter()
                .zip(&other.layers)
                .all(|(a, b)| shares(a, b))
    }
}

fn damaged(what: &str) -> Failure {
    Failure {
        message: format!("a mount's record is damaged: {what}"),
        hint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(repositories: &[Option<&str>]) -> ImageMount {
        let layer = |repository: &Option<&str>| {
            serde_json::json!({"size": 1, "diff_id": "", "media_type": "", "decision": {
                "layer": "", "source": "referrer", "repository": repository, "index": ""}})
        };
        let layers: Vec<_> = repositories.iter().map(layer).collect();
        serde_json::from_value(serde_json::json!({
            "request": {"reference": "r", "plain_http": false},
            "reference": "r", "manifest": "m", "merged_index": "i", "layers": layers,
            "explicit": false, "background": "off"}))
        .unwrap()
    }

    #[test]
    fn untrusted_indexes_are_not_shared_between_repositories() {
        let (a, b) = (Some("h/a"), Some("h/b"));
        assert!(image(&[a, a]).is_same_tree(&image(&[a, a])));
        assert!(
            image(&[a, a]).is_same_tree(&image(&[None, a])),
            "promoted meanwhile"
        );
        assert!(image(&[None, None]).is_same_tree(&image(&[a, b])));
        assert!(!image(&[a, None]).is_same_tree(&image(&[b, None])));
        assert!(!image(&[a]).is_same_tree(&image(&[a, a])));
    }
}
