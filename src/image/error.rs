//! What can go wrong between a reference and a readable image.

use std::io;
use std::path::PathBuf;

use index_format::Digest;

use crate::platform::PlatformError;
use crate::sign::KeyError;
use brisk_blob::BlobError;
use brisk_cache::CacheError;
use brisk_indexer::IndexerError;
use brisk_registry::RegistryError;

/// Errors of the image floor.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry or the layout directory did not give what was asked for.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The bytes of a layer cannot be had.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The platform's text is not one.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A document of the image is not what it should be.
    #[error("{reference}: bad {document}: {message}")]
    Document {
        /// The image.
        reference: String,
        /// Which document.
        document: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// No manifest of the image index runs here.
    #[error("{reference} has no image for {wanted}; it offers {offered}")]
    NoPlatform {
        /// The image.
        reference: String,
        /// The wanted platform.
        wanted: String,
        /// The platforms that the image has.
        offered: String,
    },
    /// A layer is of a kind that brisk cannot read.
    #[error("{reference}: layer {digest} is of media type {media_type}, which is not a tar layer")]
    MediaType {
        /// The image.
        reference: String,
        /// The layer.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// An index artifact is not what it should be.
    #[error("index artifact: {message}")]
    Artifact {
        /// What is wrong with it.
        message: String,
    },
    /// A layer's bytes are not those that its digest names, or its tar not the config's.
    #[error("layer {layer}: {what} is {found}, expected {expected}")]
    Mismatch {
        /// The layer.
        layer: Digest,
        /// "digest" or "diff ID".
        what: &'static str,
        /// What the bytes have.
        found: Digest,
        /// What manifest or config say.
        expected: Digest,
    },
    /// A layer cannot be read as the tar it should be.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The layer.
        layer: Digest,
        /// What is wrong with it.
        source: IndexerError,
    },
    /// The layers do not make one tree.
    #[error("{reference}: merging the layers: {message}")]
    Merge {
        /// The image.
        reference: String,
        /// What is wrong.
        message: String,
    },
    /// The local copy of a layer failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file below the root failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A worker ended without a result.
    #[error("internal: {0}")]
    Worker(String),
}

/// The remedy where a layer is longer than allowed and yet wanted.
pub const LAYER_SIZE_HINT: &str = "is it no decompression bomb, allow it by a larger `layer_size` \
     in section [limits] of the configuration";

impl ImageError {
    /// What the user can do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            ImageError::NoPlatform { .. } => {
                Some("choose one of them with --platform os/arch[/variant]".to_owned())
            }
            ImageError::Registry(error) if error.is_unauthorized() => Some(
                "log in with `docker login` or name a docker configuration by DOCKER_CONFIG"
                    .to_owned(),
            ),
            ImageError::Registry(error) if error.is_not_found() => {
                Some("check the spelling of repository and tag".to_owned())
            }
            ImageError::Registry(error) if error.is_distrusted() => Some(
                "name its authority's certificate in the configuration: ca_files = [\"FILE\"] \
                 below [registry]"
                    .to_owned(),
            ),
            ImageError::Registry(error) if error.is_unreachable() => Some(
                "check that the name of the registry is right and that it runs; `--plain-http` is \
                 for one without TLS"
                    .to_owned(),
            ),
            ImageError::Layer { source, .. } if source.is_stream_too_long() => {
                Some(LAYER_SIZE_HINT.to_owned())
            }
            ImageError::Mismatch { .. } | ImageError::Layer { .. } => {
                Some("the registry's copy is damaged; push the image again".to_owned())
            }
            _ => None,
        }
    }
}

/// Gives a closure that turns an I/O error on `path` into an [`ImageError`].
pub fn on_file(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_path_buf();
    move |source| ImageError::File {
        action,
        path,
        source,
    }
}
