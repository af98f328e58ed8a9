//! What image is meant, and where its bytes are.

use std::sync::Arc;

use crate::error::ImageError;
use crate::platform::Platform;
use crate::sign::PublicKey;
use crate::trust::Policy;
use brisk_blob::{Blob, FileBlob, RemoteBlob};
use brisk_registry::{BlobRef, ImageSource};
use index_format::Digest;

/// One image to be resolved.
#[derive(Clone)]
pub struct Query {
    /// The reference, normalised.
    pub reference: String,
    /// Where its parts are read from.
    pub source: ImageSource,
    /// Where indexes may be attached to the image besides: a repository that the configuration
    /// names.
    pub elsewhere: Option<ImageSource>,
    /// The platform to choose.
    pub platform: Platform,
    /// The policy that candidates are held against.
    pub policy: Policy,
    /// Keys whose signatures of indexes are believed for this repository.
    pub keys: Vec<PublicKey>,
    /// Accept no index but those that every repository's images are served by, whoever vouches
    /// for another.
    pub trusted_only: bool,
    /// The manifest, where somebody else has chosen it; it need not be what a tag means now.
    pub manifest: Option<Digest>,
    /// Ask the registry again even where the reference is known.
    pub refresh: bool,
}

/// A blob of the image, wherever it lies.
///
/// # Errors
/// Where a layout directory has no such blob.
pub fn source_blob(source: &ImageSource, blob: BlobRef) -> Result<Arc<dyn Blob>, ImageError> {
    Ok(match source {
        ImageSource::Registry { client, reference } => Arc::new(RemoteBlob::new(
            client.clone(),
            reference.repository().clone(),
            blob,
        )),
        ImageSource::Layout { layout, .. } => {
            let path = layout.dir().join("blobs/sha256").join(blob.digest.hex());
            Arc::new(FileBlob::open(&path)?)
        }
    })
}
