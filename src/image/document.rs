//! Manifest and config of one image, checked and brought to one shape.

use index_format::{Compression, Digest};
use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest, MediaType};

use crate::artifact::TABLE_ANNOTATION;
use crate::error::ImageError;
use crate::platform::Platform;

/// Most layers an image may have: overlayfs and containerd stop at 128 as well.
pub const LAYER_LIMIT: usize = 128;

/// One layer as manifest and config describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDescriptor {
    /// Digest of the compressed blob.
    pub digest: Digest,
    /// Compressed size in bytes.
    pub size: u64,
    /// Media type, verbatim.
    pub media_type: String,
    /// How the tar is compressed, as the media type says.
    pub compression: Compression,
    /// Digest of the uncompressed tar, bound by the config.
    pub diff_id: Digest,
}

/// What a manifest says before its config is known.
#[derive(Clone, Debug)]
pub struct ManifestDocument {
    /// Digest and size of the config blob.
    pub config: (Digest, u64),
    /// The layers from the bottom up; diff IDs are still missing.
    pub layers: Vec<ManifestLayer>,
    /// The table of the indexes that the manifest itself names, where it does.
    pub bound: Option<String>,
}

/// A layer of a manifest.
#[derive(Clone, Debug)]
pub struct ManifestLayer {
    /// Digest of the compressed blob.
    pub digest: Digest,
    /// Compressed size in bytes.
    pub size: u64,
    /// Media type, verbatim.
    pub media_type: String,
}

/// True where the media type is that of an image index (OCI) or manifest list (Docker).
pub fn is_image_index(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

/// True where the media type is that of an image manifest.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

/// Digest and size of the manifest in an image index that fits `platform` best.
pub fn select(
    reference: &str,
    bytes: &[u8],
    platform: &Platform,
) -> Result<(Digest, u64), ImageError> {
    let index: ImageIndex = serde_json::from_slice(bytes).map_err(|e| ImageError::Document {
        reference: reference.to_owned(),
        document: "image index",
        message: e.to_string(),
    })?;
    let mut offered = Vec::new();
    let mut best = None;
    for descriptor in index.manifests() {
        if !is_manifest(descriptor.media_type().as_ref()) {
            continue;
        }
        let Some(found) = descriptor.platform() else {
            continue;
        };
        let (os, architecture) = (found.os().to_string(), found.architecture().to_string());
        let variant = found.variant().as_deref();
        if os == "unknown" {
            // Attestations of image builders are listed beside the images.
            continue;
        }
        offered.push(match variant {
            Some(variant) => format!("{os}/{architecture}/{variant}"),
            None => format!("{os}/{architecture}"),
        });
        let Some(distance) = platform.distance(&os, &architecture, variant) else {
            continue;
        };
        if best.as_ref().is_none_or(|(least, _, _)| distance < *least) {
            best = Some((
                distance,
                parse_digest(reference, descriptor.digest().as_ref())?,
                descriptor.size(),
            ));
        }
    }
    match best {
        Some((_, digest, size)) => Ok((digest, size)),
        None => Err(ImageError::NoPlatform {
            reference: reference.to_owned(),
            wanted: platform.to_string(),
            offered: offered.join(", "),
        }),
    }
}

/// The platforms of an image index, each once.
pub fn platforms(reference: &str, bytes: &[u8]) -> Result<Vec<Platform>, ImageError> {
    let bad = |message: String| ImageError::Document {
        reference: reference.to_owned(),
        document: "image index",
        message,
    };
    let index: ImageIndex = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
    let mut platforms: Vec<Platform> = Vec::new();
    for descriptor in index.manifests() {
        let Some(found) = descriptor.platform() else {
            continue;
        };
        let os = found.os().to_string();
        if !is_manifest(descriptor.media_type().as_ref()) || os == "unknown" {
            continue;
        }
        let mut text = format!("{os}/{}", found.architecture());
        if let Some(variant) = found.variant() {
            text.push('/');
            text.push_str(variant);
        }
        let platform: Platform = text.parse().map_err(ImageError::Platform)?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// Parses an image manifest of either kind.
pub fn parse_manifest(reference: &str, bytes: &[u8]) -> Result<ManifestDocument, ImageError> {
    let bad = |message: String| ImageError::Document {
        reference: reference.to_owned(),
        document: "manifest",
        message,
    };
    let manifest: ImageManifest = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
    if manifest.schema_version() != 2 {
        return Err(bad(format!(
            "schema version {} is not 2",
            manifest.schema_version()
        )));
    }
    if manifest.layers().len() > LAYER_LIMIT {
        return Err(bad(format!(
            "{} layers are above the limit of {LAYER_LIMIT}",
            manifest.layers().len()
        )));
    }
    if let Some(kind) = manifest.artifact_type()
        && !matches!(kind, MediaType::EmptyJSON)
        && !is_manifest(kind.as_ref())
        && manifest
            .layers()
            .iter()
            .all(|l| compression(l.media_type().as_ref()).is_none())
    {
        return Err(bad(format!(
            "it is an artifact of type {kind}, not an image"
        )));
    }
    let config = manifest.config();
    let mut layers = Vec::with_capacity(manifest.layers().len());
    for layer in manifest.layers() {
        layers.push(ManifestLayer {
            digest: parse_digest(reference, layer.digest().as_ref())?,
            size: layer.size(),
            media_type: layer.media_type().to_string(),
        });
    }
    Ok(ManifestDocument {
        config: (
            parse_digest(reference, config.digest().as_ref())?,
            config.size(),
        ),
        layers,
        bound: manifest
            .annotations()
            .as_ref()
            .and_then(|annotations| annotations.get(TABLE_ANNOTATION).cloned()),
    })
}

/// Parses a config and pairs its diff IDs with the manifest's layers.
pub fn parse_config(
    reference: &str,
    manifest: &ManifestDocument,
    bytes: &[u8],
) -> Result<(ImageConfiguration, Vec<LayerDescriptor>), ImageError> {
    let bad = |message: String| ImageError::Document {
        reference: reference.to_owned(),
        document: "config",
        message,
    };
    let config: ImageConfiguration =
        serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers.len() {
        return Err(bad(format!(
            "{} diff IDs for {} layers of the manifest",
            diff_ids.len(),
            manifest.layers.len()
        )));
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let Some(compression) = compression(&layer.media_type) else {
            return Err(ImageError::MediaType {
                reference: reference.to_owned(),
                digest: layer.digest,
                media_type: layer.media_type.clone(),
            });
        };
        layers.push(LayerDescriptor {
            digest: layer.digest,
            size: layer.size,
            media_type: layer.media_type.clone(),
            compression,
            diff_id: parse_digest(reference, diff_id)?,
        });
    }
    Ok((config, layers))
}

/// The compression that a layer's media type promises; none for what is not a layer we can read.
pub fn compression(media_type: &str) -> Option<Compression> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Some(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

fn parse_digest(reference: &str, text: &str) -> Result<Digest, ImageError> {
    text.parse().map_err(|_| ImageError::Document {
        reference: reference.to_owned(),
        document: "digest",
        message: format!("{text:?} is not a sha256 digest"),
    })
}
