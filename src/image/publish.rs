//! Building the indexes of an image and attaching them to it as a referrer.

use bytes::Bytes;
use index_format::{Digest, Index, wire};

use crate::arrival::{Arrivals, OnBytes};
use crate::artifact::{self, ARTIFACT_TYPE, EMPTY_CONFIG};
use crate::document::LayerDescriptor;
use crate::documents::{self, Documents};
use crate::error::ImageError;
use crate::index_store::IndexStore;
use crate::query::{Query, source_blob};
use crate::store::ImageStore;
use brisk_cache::LayerKey;
use brisk_indexer::{Discard, IndexOptions};
use brisk_registry::{BlobRef, ImageSource};

/// Builds and publishes indexes; what it builds is kept as trusted below the root.
pub struct Publisher {
    /// Manifests and configs.
    pub images: ImageStore,
    /// Indexes.
    pub indexes: IndexStore,
    /// Bounds the memory of what is under way.
    pub arrivals: Arrivals,
}

/// A layer with its complete index.
pub struct IndexedLayer {
    /// The layer.
    pub descriptor: LayerDescriptor,
    /// Its index, with all sections.
    pub index: Index,
    /// Why the layer can only be streamed whole, if that is so.
    pub stream_only: Option<String>,
    /// Oddities of the layer.
    pub warnings: Vec<String>,
}

/// What was attached to an image.
pub struct Published {
    /// Digest of the artifact's manifest.
    pub artifact: Digest,
    /// Size of its blob in bytes.
    pub size: u64,
    /// Layers that are in it.
    pub layers: usize,
    /// Layers that are not, since they can only be streamed whole.
    pub skipped: usize,
    /// True where exactly this was attached before.
    pub was_there: bool,
}

impl Publisher {
    /// The complete index of every layer: built from the layer's own bytes, unless this root has
    /// built it before with the same chunk size.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn build(
        &self,
        query: &Query,
        options: IndexOptions,
        on_bytes: OnBytes,
    ) -> Result<(Documents, Vec<IndexedLayer>), ImageError> {
        let manifest = documents::manifest(query).await?;
        let documents = documents::with_config(&self.images, query, &manifest).await?;
        let mut layers = Vec::with_capacity(documents.layers.len());
        for layer in &documents.layers {
            layers.push(
                self.build_layer(query, layer, options, on_bytes.clone())
                    .await?,
            );
        }
        Ok((documents, layers))
    }

    async fn build_layer(
        &self,
        query: &Query,
        layer: &LayerDescriptor,
        options: IndexOptions,
        on_bytes: OnBytes,
    ) -> Result<IndexedLayer, ImageError> {
        let key = LayerKey::trusted(layer.digest);
        let known = self.indexes.load(&key).filter(|index| {
            options.chunk_size.is_none() && !index.is_hot_only() && index.diff_id() == layer.diff_id
        });
        if let Some(index) = known {
            on_bytes(layer.size);
            let stream_only = index.features().stream_only().map(str::to_owned);
            let warnings = Vec::new();
            return Ok(IndexedLayer {
                descriptor: layer.clone(),
                index,
                stream_only,
                warnings,
            });
        }
        let blob = BlobRef {
            digest: layer.digest,
            size: layer.size,
        };
        let blob = source_blob(&query.source, blob)?;
        let (built, Discard) = self
            .arrivals
            .index(layer, blob, options, Discard, on_bytes)
            .await?;
        let stream_only = built.stream_only.map(|reason| reason.to_string());
        let index = self.indexes.store(&key, &built.bytes)?;
        Ok(IndexedLayer {
            descriptor: layer.clone(),
            index,
            stream_only,
            warnings: built
                .warnings
                .first
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
    }

    /// Attaches the indexes to the image in its repository; a second time is a no-op.
    ///
    /// # Errors
    /// See [`ImageError`]; a layout directory cannot be pushed to.
    pub async fn push(
        &self,
        query: &Query,
        documents: &Documents,
        layers: &[IndexedLayer],
    ) -> Result<Published, ImageError> {
        let ImageSource::Registry { client, reference } = &query.source else {
            return Err(ImageError::Artifact {
                message: format!("{} is not in a registry", query.reference),
            });
        };
        let repository = reference.repository();
        let mut indexes = Vec::new();
        let mut skipped = Vec::new();
        for layer in layers {
            let (digest, features) = (layer.descriptor.digest, layer.index.features());
            if features.stream_only().is_some() {
                skipped.push((digest, features));
                continue;
            }
            let wire = wire::encode(layer.index.as_bytes()).map_err(|e| ImageError::Artifact {
                message: e.to_string(),
            })?;
            indexes.push((digest, layer.index.digest(), wire));
        }
        let subject = (
            documents.manifest,
            documents.manifest_size,
            documents.manifest_type.as_str(),
        );
        let artifact = artifact::encode(subject, &indexes, &skipped)?;
        let digest = Digest::of(&artifact.manifest);
        let mut published = Published {
            artifact: digest,
            size: artifact.blob.len() as u64,
            layers: indexes.len(),
            skipped: skipped.len(),
            was_there: true,
        };
        let attached = client
            .referrers(repository, documents.manifest, Some(ARTIFACT_TYPE))
            .await?;
        if attached
            .iter()
            .any(|d| d.digest().to_string() == digest.to_string())
        {
            return Ok(published);
        }
        for blob in [Bytes::from(artifact.blob), Bytes::from_static(EMPTY_CONFIG)] {
            client.upload_blob(repository, blob).await?;
        }
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        client
            .push_referrer(repository, media_type, Bytes::from(artifact.manifest))
            .await?;
        published.was_there = false;
        Ok(published)
    }
}
