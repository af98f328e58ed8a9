//! The lowest layers of an image, as far as they have an index: what a mount can serve below
//! layers that somebody else unpacks.

use std::sync::Arc;

use index_format::{Digest, Index, Limits};

use crate::document::LayerDescriptor;
use crate::error::ImageError;
use crate::query::Query;
use crate::resolve::{Observer, ResolvedLayer, Resolver};

/// The layers of an image from the bottom up, each with an index, up to the first without one.
#[derive(Clone, Debug)]
pub struct LowestLayers {
    /// Digest of the image manifest.
    pub manifest: Digest,
    /// Diff IDs of all layers of the image.
    pub diff_ids: Vec<Digest>,
    /// The layers.
    pub layers: Vec<ResolvedLayer>,
    /// Why the layer above them has no index; none where they are all that was asked for.
    pub reason: Option<String>,
}

impl Resolver {
    /// Resolves the lowest layers of an image, `limit` of them at most. With `pull`, those
    /// without an index are pulled whole, all at once; else they end the row. No record of the
    /// image is kept.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn lowest_layers(
        &self,
        query: &Query,
        limit: usize,
        pull: bool,
        observer: &Arc<dyn Observer>,
    ) -> Result<LowestLayers, ImageError> {
        if let Some(mut known) = self.known(query) {
            let diff_id = |layer: &ResolvedLayer| layer.descriptor.diff_id;
            let manifest = known.record.manifest.parse();
            let diff_ids = known.layers.iter().map(diff_id).collect();
            known.layers.truncate(limit);
            return Ok(LowestLayers {
                manifest: manifest.map_err(|_| damaged(&known.record.manifest))?,
                diff_ids,
                layers: known.layers,
                reason: None,
            });
        }
        let (mut documents, referrers) = self.documents(query).await?;
        let diff_id = |layer: &LayerDescriptor| layer.diff_id;
        let diff_ids = documents.layers.iter().map(diff_id).collect();
        documents.layers.truncate(limit);
        let referrers = referrers.of_indexes();
        let found = self
            .layers(query, &documents, &referrers, pull, observer)
            .await?;
        let (mut layers, mut reason) = (Vec::new(), None);
        for layer in found {
            match layer {
                Ok(layer) => layers.push(layer),
                Err(why) => {
                    reason = Some(why.words);
                    break;
                }
            }
        }
        Ok(LowestLayers {
            manifest: documents.manifest,
            diff_ids,
            layers,
            reason,
        })
    }

    /// The union of layers, from the bottom up, kept under its identity.
    ///
    /// # Errors
    /// Where it would be too large, or the disk cannot take it.
    pub fn merge_indexes(
        &self,
        reference: &str,
        layers: &[Index],
        observer: &dyn Observer,
    ) -> Result<Index, ImageError> {
        let merged =
            index_format::merge(layers, &Limits::default()).map_err(|error| ImageError::Merge {
                reference: reference.to_owned(),
                message: error.to_string(),
            })?;
        for warning in &merged.warnings {
            observer.warn(format!("{reference}: {warning}"));
        }
        self.indexes.store_merged(&merged.bytes)
    }
}

fn damaged(digest: &str) -> ImageError {
    ImageError::Worker(format!("an image record with manifest {digest:?}"))
}
