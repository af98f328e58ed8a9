//! What a container needs of its image: the seam to the mount service.

use super::id::ContainerId;
use oci_spec::image::ImageConfiguration;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// Which image a container wants.
#[derive(Clone, Debug)]
pub struct ImageRequest<'a> {
    /// The reference as the user wrote it.
    pub reference: String,
    /// `os/architecture[/variant]`, or none for the host's.
    pub platform: Option<String>,
    /// Replaces the image's Entrypoint; empty clears it.
    pub entrypoint: Option<String>,
    /// Replace the image's Cmd.
    pub command: Vec<String>,
    /// The container is ready when [`ImageProvider::ready`] says so, and no sooner.
    pub told_when_ready: bool,
    /// Whose mount it is; [`ImageProvider::release`] ends it.
    pub container: ContainerId,
    /// Becomes readable or hangs up when the caller gives up. A provider that waits
    /// polls it, and then returns [`ImageError`] with `cancelled` set soon.
    pub cancel: Option<BorrowedFd<'a>>,
}

/// An image that is mounted and stays so until it is released.
#[derive(Clone, Debug)]
pub struct AcquiredImage {
    /// The normalised reference.
    pub reference: String,
    /// Digest of the manifest of the chosen platform.
    pub manifest_digest: String,
    /// The read-only merged tree: the lower of the container's overlay.
    pub rootfs: PathBuf,
    /// The image's configuration.
    pub config: ImageConfiguration,
}

/// Why an image cannot be had. The provider's own error stays behind the words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ImageError {
    /// What went wrong, in words for the user.
    pub message: String,
    /// A remedy, where there is one.
    pub hint: Option<String>,
    /// Whether the caller's `cancel` was the cause.
    pub cancelled: bool,
    /// Whether trying again may help (the service is not there right now).
    pub retryable: bool,
}

impl ImageError {
    /// An error that says `message` and nothing more.
    pub fn new(message: impl Into<String>) -> ImageError {
        ImageError {
            message: message.into(),
            hint: None,
            cancelled: false,
            retryable: false,
        }
    }
}

/// What a container needs of its image. Implemented by the client of the mount service.
pub trait ImageProvider: Sync {
    /// Resolves and mounts the image for `request.container`, keeping it mounted until
    /// [`ImageProvider::release`]. May take as long as a download, and words about its
    /// progress may go to stderr.
    fn acquire(&self, request: &ImageRequest<'_>) -> Result<AcquiredImage, ImageError>;

    /// The container's program has shown that it runs: what its start needs has been read.
    fn ready(&self, container: &ContainerId) -> Result<(), ImageError>;

    /// Ends the container's hold on its image. A container that holds none is no error;
    /// a hold that is still being acquired is cancelled.
    fn release(&self, container: &ContainerId) -> Result<(), ImageError>;
}
