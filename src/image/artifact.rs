//! The artifact that carries the indexes of an image's layers as its referrer.
//!
//! One manifest with the image manifest as subject, one blob with the indexes of all layers.
//! The blob begins with the *hot* parts, one after the other, so that everything a mount needs
//! is one range; the cold sections follow, each a range of its own. A table of these ranges
//! stands in the manifest's annotations, which a referrers answer repeats: no trip is spent on
//! the manifest itself.

use index_format::wire::WireIndex;
use index_format::{Digest, Features, SectionId};
use serde::{Deserialize, Serialize};

use crate::error::ImageError;

/// Artifact type of an index artifact.
pub const ARTIFACT_TYPE: &str = "application/vnd.brisk.index.v1";
/// Media type of its one blob.
pub const BLOB_TYPE: &str = "application/vnd.brisk.index.blob.v1";
/// Annotation that holds the table of ranges.
pub const TABLE_ANNOTATION: &str = "dev.brisk.index.table";
/// Largest blob accepted, in bytes: indexes are below 1.5 % of an image, and images above
/// 30 GB are not known.
pub const BLOB_LIMIT: u64 = 512 * 1024 * 1024;
const EMPTY_CONFIG_TYPE: &str = "application/vnd.oci.empty.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The content of the empty config descriptor (OCI image specification, "Guidance for an Empty
/// Descriptor").
pub const EMPTY_CONFIG: &[u8] = b"{}";

/// A range of the blob: first byte and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

impl Part {
    /// The range, if it lies within a blob of `size` bytes.
    pub fn within(&self, size: u64) -> Option<std::ops::Range<u64>> {
        let end = self.offset.checked_add(self.length)?;
        (end <= size).then_some(self.offset..end)
    }
}

/// One layer's row in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerParts {
    /// Digest of the compressed layer.
    pub layer: String,
    /// Identity of its index.
    pub index: String,
    /// What a mount needs.
    pub hot: Part,
    /// The cold sections, by number.
    pub cold: Vec<(u32, Part)>,
}

/// A layer that the artifact has no index of, since it is stream-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOnlyLayer {
    /// Digest of the compressed layer.
    pub layer: String,
    /// The optional feature bits that its index would have, which say why.
    pub features: u64,
}

/// The table of ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Digest of the blob.
    pub blob: String,
    /// Size of the blob in bytes.
    pub size: u64,
    /// One row a layer that has an index.
    pub layers: Vec<LayerParts>,
    /// One row a layer that was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stream_only: Vec<StreamOnlyLayer>,
}

impl Table {
    /// Parses a table and checks that every range lies in the blob.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let bad = |message: String| ImageError::Artifact { message };
        let table: Table = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if table.size > BLOB_LIMIT {
            return Err(bad(format!(
                "{} bytes are above the limit of {BLOB_LIMIT}",
                table.size
            )));
        }
        for row in &table.layers {
            for part in row.cold.iter().map(|(_, part)| part).chain([&row.hot]) {
                part.within(table.size).ok_or_else(|| {
                    bad(format!(
                        "range {part:?} of {} is outside the blob",
                        row.layer
                    ))
                })?;
            }
        }
        Ok(table)
    }

    /// The row of a layer.
    pub fn layer(&self, digest: Digest) -> Option<&LayerParts> {
        let text = digest.to_string();
        self.layers.iter().find(|row| row.layer == text)
    }

    /// Why a layer was left out, in words; `None` where the table does not say so.
    pub fn stream_only(&self, digest: Digest) -> Option<&'static str> {
        let text = digest.to_string();
        let row = self.stream_only.iter().find(|row| row.layer == text)?;
        let features = Features {
            optional: row.features,
            ..Features::default()
        };
        features.stream_only()
    }
}

impl LayerParts {
    /// The range of a cold section.
    pub fn cold(&self, section: SectionId) -> Option<Part> {
        let number = section.number();
        self.cold
            .iter()
            .find(|(n, _)| *n == number)
            .map(|(_, part)| *part)
    }
}

/// A complete artifact, ready to be pushed.
pub struct Artifact {
    /// The blob with all indexes.
    pub blob: Vec<u8>,
    /// Digest of the blob.
    pub blob_digest: Digest,
    /// The table of ranges, as the annotation holds it.
    pub table: String,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
}

impl Artifact {
    /// The same artifact with one more annotation.
    ///
    /// # Errors
    /// Never for what [`encode`] made.
    pub fn annotated(self, name: &str, text: &str) -> Result<Self, ImageError> {
        let manifest = annotate(&self.manifest, name, text)?;
        Ok(Self { manifest, ..self })
    }
}

/// A manifest with one more annotation.
///
/// # Errors
/// Where it is no JSON object.
pub fn annotate(manifest: &[u8], name: &str, text: &str) -> Result<Vec<u8>, ImageError> {
    let bad = |message: String| ImageError::Artifact { message };
    let mut manifest: serde_json::Value =
        serde_json::from_slice(manifest).map_err(|e| bad(e.to_string()))?;
    let annotations = manifest
        .as_object_mut()
        .ok_or_else(|| bad("the manifest is no object".to_owned()))?
        .entry("annotations")
        .or_insert_with(|| serde_json::json!({}));
    // A null is as good as none.
    if !annotations.is_object() {
        *annotations = serde_json::json!({});
    }
    annotations[name] = text.into();
    serde_json::to_vec(&manifest).map_err(|e| bad(e.to_string()))
}

/// Lays out the artifact for `subject` (digest, size and media type of the image manifest) from
/// the indexes of its layers: layer digest, index identity and network form of each. Of the
/// layers in `stream_only` it only says, by the features of their indexes, why they have none.
pub fn encode(
    subject: (Digest, u64, &str),
    indexes: &[(Digest, Digest, WireIndex)],
    stream_only: &[(Digest, Features)],
) -> Result<Artifact, ImageError> {
    let mut blob = Vec::new();
    let append = |blob: &mut Vec<u8>, bytes: &[u8]| {
        let part = Part {
            offset: blob.len() as u64,
            length: bytes.len() as u64,
        };
        blob.extend_from_slice(bytes);
        part
    };
    let hot: Vec<Part> = indexes
        .iter()
        .map(|(_, _, w)| append(&mut blob, &w.hot))
        .collect();
    let mut layers = Vec::with_capacity(indexes.len());
    for ((layer, index, wire), hot) in indexes.iter().zip(hot) {
        let cold = wire
            .cold
            .iter()
            .map(|(id, bytes)| (id.number(), append(&mut blob, bytes)))
            .collect();
        layers.push(LayerParts {
            layer: layer.to_string(),
            index: index.to_string(),
            hot,
            cold,
        });
    }
    let mut blob_type = BLOB_TYPE;
    if indexes.is_empty() {
        blob = EMPTY_CONFIG.to_vec();
        blob_type = EMPTY_CONFIG_TYPE;
    }
    let blob_digest = Digest::of(&blob);
    let stream_only = stream_only.iter().map(|(layer, features)| StreamOnlyLayer {
        layer: layer.to_string(),
        features: features.optional,
    });
    let table = Table {
        blob: blob_digest.to_string(),
        size: blob.len() as u64,
        layers,
        stream_only: stream_only.collect(),
    };
    let table = serde_json::to_string(&table).map_err(|e| ImageError::Artifact {
        message: e.to_string(),
    })?;
    let blob_place = (blob_type, blob_digest.to_string(), blob.len() as u64);
    let manifest = manifest(
        ARTIFACT_TYPE,
        blob_place,
        subject,
        (TABLE_ANNOTATION, &table),
    )?;
    Ok(Artifact {
        blob,
        blob_digest,
        table,
        manifest,
    })
}

/// The manifest of an artifact of one blob (media type, digest, bytes) that refers to `subject`
/// (digest, bytes, media type), with one annotation (OCI image specification, "Guidelines for
/// Artifact Usage").
pub(crate) fn manifest(
    artifact_type: &str,
    (blob_type, blob, blob_size): (&str, String, u64),
    (digest, size, media_type): (Digest, u64, &str),
    (annotation, value): (&str, &str),
) -> Result<Vec<u8>, ImageError> {
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": {
            "mediaType": EMPTY_CONFIG_TYPE,
            "digest": Digest::of(EMPTY_CONFIG).to_string(),
            "size": EMPTY_CONFIG.len(),
        },
        "layers": [{ "mediaType": blob_type, "digest": blob, "size": blob_size }],
        "subject": { "mediaType": media_type, "digest": digest.to_string(), "size": size },
        "annotations": { annotation: value },
    });
    serde_json::to_vec(&manifest).map_err(|e| ImageError::Artifact {
        message: e.to_string(),
    })
}
