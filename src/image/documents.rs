//! Manifest and config of the chosen platform, fetched and checked.

use bytes::Bytes;
use index_format::Digest;
use oci_spec::image::ImageConfiguration;

use crate::document::{self, LayerDescriptor, ManifestDocument};
use crate::error::ImageError;
use crate::query::Query;
use crate::store::ImageStore;
use brisk_registry::BlobRef;

/// Manifest and config, before any layer is looked at.
#[derive(Clone)]
pub struct Documents {
    /// Digest of the image manifest.
    pub manifest: Digest,
    /// Its size in bytes.
    pub manifest_size: u64,
    /// Its media type.
    pub manifest_type: String,
    /// Digest of the config.
    pub config_digest: Digest,
    /// The config, verbatim.
    pub config_bytes: Vec<u8>,
    /// The config.
    pub config: ImageConfiguration,
    /// The layers from the bottom up.
    pub layers: Vec<LayerDescriptor>,
    /// The table of the indexes that the manifest itself names, where it does.
    pub bound: Option<String>,
}

/// The image manifest of the chosen platform.
pub struct FoundManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    document: ManifestDocument,
}

/// Fetches the image manifest of the chosen platform.
///
/// # Errors
/// Where it cannot be had, or is not an image manifest.
pub async fn manifest(query: &Query) -> Result<FoundManifest, ImageError> {
    let mut manifest = match query.manifest {
        Some(digest) => query.source.manifest(digest).await?,
        None => query.source.named_manifest().await?,
    };
    if document::is_image_index(&manifest.media_type) {
        let (digest, _) = document::select(&query.reference, &manifest.bytes, &query.platform)?;
        manifest = query.source.manifest(digest).await?;
    }
    if !document::is_manifest(&manifest.media_type) {
        return Err(ImageError::Document {
            reference: query.reference.clone(),
            document: "manifest",
            message: format!(
                "media type {:?} is not an image manifest",
                manifest.media_type
            ),
        });
    }
    Ok(FoundManifest {
        document: document::parse_manifest(&query.reference, &manifest.bytes)?,
        digest: manifest.digest,
        media_type: manifest.media_type,
        bytes: manifest.bytes,
    })
}

/// The image manifests of every Linux platform of an image, each with the query that means it.
/// Attestations of image builders and images for other systems are passed over.
///
/// # Errors
/// Where one cannot be had, or there is none.
pub async fn every_platform(query: &Query) -> Result<Vec<Query>, ImageError> {
    let manifest = query.source.named_manifest().await?;
    if !document::is_image_index(&manifest.media_type) {
        return Ok(vec![query.clone()]);
    }
    let platforms = document::platforms(&query.reference, &manifest.bytes)?;
    let linux: Vec<Query> = platforms
        .into_iter()
        .filter(|platform| platform.os == "linux")
        .map(|platform| Query {
            platform,
            ..query.clone()
        })
        .collect();
    match linux.is_empty() {
        false => Ok(linux),
        true => Err(ImageError::NoPlatform {
            reference: query.reference.clone(),
            wanted: "linux".to_owned(),
            offered: "none".to_owned(),
        }),
    }
}

/// Fetches the config of a manifest, unless the root has it.
///
/// # Errors
/// Where it cannot be had, does not fit the manifest, or is for another platform.
pub async fn with_config(
    images: &ImageStore,
    query: &Query,
    manifest: &FoundManifest,
) -> Result<Documents, ImageError> {
    let (config_digest, size) = manifest.document.config;
    let config_bytes = match images.blob(config_digest) {
        Some(bytes) => bytes,
        None => query
            .source
            .blob(BlobRef {
                digest: config_digest,
                size,
            })
            .await?
            .to_vec(),
    };
    let (config, layers) =
        document::parse_config(&query.reference, &manifest.document, &config_bytes)?;
    check_platform(query, &config)?;
    Ok(Documents {
        manifest: manifest.digest,
        manifest_size: manifest.bytes.len() as u64,
        manifest_type: manifest.media_type.clone(),
        config_digest,
        config_bytes,
        config,
        layers,
        bound: manifest.document.bound.clone(),
    })
}

fn check_platform(query: &Query, config: &ImageConfiguration) -> Result<(), ImageError> {
    let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
    let variant = config.variant().as_deref();
    if query
        .platform
        .distance(&os, &architecture, variant)
        .is_some()
    {
        return Ok(());
    }
    Err(ImageError::NoPlatform {
        reference: query.reference.clone(),
        wanted: query.platform.to_string(),
        offered: format!("{os}/{architecture}"),
    })
}
