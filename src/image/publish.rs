//! Building the indexes of an image and attaching them to it as a referrer.

use std::collections::BTreeMap;

use bytes::Bytes;
use index_format::{Digest, Index, wire};

use crate::arrival::{Arrivals, OnBytes};
use crate::artifact::{self, ARTIFACT_TYPE, TABLE_ANNOTATION};
use crate::attach::{Attachment, attach};
use crate::destination::Destination;
use crate::document::{self, LayerDescriptor};
use crate::documents::{self, Documents};
use crate::error::ImageError;
use crate::index_store::IndexStore;
use crate::query::{Query, source_blob};
use crate::sign::statement::{self, SIGNATURES_ANNOTATION};
use crate::sign::{SigningKey, Statement};
use crate::store::ImageStore;
use brisk_cache::LayerKey;
use brisk_indexer::{Discard, IndexOptions};
use brisk_registry::{BlobRef, Manifest, media};

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
    /// True where exactly this was attached before: nothing was sent.
    pub was_there: bool,
    /// The table of ranges in it.
    table: String,
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

    /// Attaches the indexes to the image at `destination`, signed where a key is given; a second
    /// time is a no-op.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn push(
        &self,
        destination: &Destination,
        documents: &Documents,
        layers: &[IndexedLayer],
        key: Option<&SigningKey>,
    ) -> Result<Published, ImageError> {
        let mut indexes = Vec::new();
        let mut skipped = Vec::new();
        let mut signatures = Vec::new();
        for layer in layers {
            let (descriptor, features) = (&layer.descriptor, layer.index.features());
            if features.stream_only().is_some() {
                skipped.push((descriptor.digest, features));
                continue;
            }
            let wire = wire::encode(layer.index.as_bytes()).map_err(|e| ImageError::Artifact {
                message: e.to_string(),
            })?;
            let statement = Statement {
                image: documents.manifest,
                layer: descriptor.digest,
                diff_id: descriptor.diff_id,
                index: layer.index.digest(),
            };
            signatures.extend(key.map(|key| statement.sign(key)));
            indexes.push((descriptor.digest, layer.index.digest(), wire));
        }
        let subject = (
            documents.manifest,
            documents.manifest_size,
            documents.manifest_type.as_str(),
        );
        let mut artifact = artifact::encode(subject, &indexes, &skipped)?;
        if key.is_some() {
            let signatures = statement::to_annotation(&signatures)?;
            artifact = artifact.annotated(SIGNATURES_ANNOTATION, &signatures)?;
        }
        let size = artifact.blob.len() as u64;
        let attachment = Attachment {
            manifest: artifact.manifest,
            artifact_type: ARTIFACT_TYPE,
            blobs: vec![artifact.blob],
        };
        let attached = attach(destination, attachment).await?;
        Ok(Published {
            artifact: attached.artifact,
            size,
            layers: indexes.len(),
            skipped: skipped.len(),
            was_there: attached.was_there,
            table: artifact.table,
        })
    }
}

/// A platform of an image with its indexes.
pub struct Indexed {
    /// Manifest and config.
    pub documents: Documents,
    /// The layers with their indexes.
    pub layers: Vec<IndexedLayer>,
}

/// Writes the image anew with its indexes named in its manifests' annotations, so that its
/// digest vouches for them; for an image index a new one of the bound platforms. The indexes
/// are attached to the new manifests as well, so that they go along with copies. Gives the new
/// image's manifest.
///
/// # Errors
/// See [`ImageError`]; `Document` for a Docker manifest, which has no annotations.
pub async fn bind(
    publisher: &Publisher,
    query: &Query,
    destination: &Destination,
    platforms: &[Indexed],
    key: Option<&SigningKey>,
) -> Result<Manifest, ImageError> {
    let root = query.source.named_manifest().await?;
    let mut replaced = BTreeMap::new();
    for platform in platforms {
        let documents = &platform.documents;
        if documents.manifest_type != media::OCI_MANIFEST {
            return Err(ImageError::Document {
                reference: query.reference.clone(),
                document: "manifest",
                message: format!(
                    "one of type {} has no annotations; bind an OCI image",
                    documents.manifest_type
                ),
            });
        }
        let unbound = publisher.push(destination, documents, &platform.layers, key);
        let table = unbound.await?.table;
        let manifest = query.source.manifest(documents.manifest).await?;
        let bytes = artifact::annotate(&manifest.bytes, TABLE_ANNOTATION, &table)?;
        let bound = manifest_of(media::OCI_MANIFEST, bytes);
        destination.put_manifest(&bound).await?;
        let again = Documents {
            manifest: bound.digest,
            manifest_size: bound.bytes.len() as u64,
            ..documents.clone()
        };
        publisher
            .push(destination, &again, &platform.layers, key)
            .await?;
        replaced.insert(documents.manifest.to_string(), bound);
    }
    if let Some(bound) = replaced.remove(&root.digest.to_string()) {
        return Ok(bound);
    }
    if !document::is_image_index(&root.media_type) {
        let message = "it has changed meanwhile; try again".to_owned();
        return Err(ImageError::Document {
            reference: query.reference.clone(),
            document: "manifest",
            message,
        });
    }
    let bytes = rebind(&root.bytes, &replaced)?;
    let bound = manifest_of(media::OCI_INDEX, bytes);
    destination.put_manifest(&bound).await?;
    Ok(bound)
}

fn manifest_of(media_type: &str, bytes: Vec<u8>) -> Manifest {
    Manifest {
        digest: Digest::of(&bytes),
        media_type: media_type.to_owned(),
        bytes: Bytes::from(bytes),
    }
}

/// An image index with these manifests in the places of those that they were made from, and no
/// others.
fn rebind(index: &[u8], replaced: &BTreeMap<String, Manifest>) -> Result<Vec<u8>, ImageError> {
    let bad = |e: serde_json::Error| ImageError::Artifact {
        message: e.to_string(),
    };
    let mut index: serde_json::Value = serde_json::from_slice(index).map_err(bad)?;
    index["mediaType"] = media::OCI_INDEX.into();
    if let Some(entries) = index["manifests"].as_array_mut() {
        entries.retain_mut(|entry| {
            let bound = entry["digest"].as_str().and_then(|d| replaced.get(d));
            if let Some(bound) = bound {
                entry["digest"] = bound.digest.to_string().into();
                entry["size"] = bound.bytes.len().into();
                entry["mediaType"] = bound.media_type.clone().into();
            }
            bound.is_some()
        });
    }
    serde_json::to_vec(&index).map_err(bad)
}
