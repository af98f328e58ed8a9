//! `brisk mount` and `brisk umount`.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::ImageOptions;
use crate::cli::service::{absolute, ask};
use crate::daemon::control::Request;

/// The FUSE device.
const DEVICE: &str = "/dev/fuse";

/// Mount the merged tree of an image, read-only
#[derive(Args, Clone, Debug)]
pub struct MountArguments {
    #[command(flatten)]
    image: ImageOptions,
    /// Honour set-user-ID bits and file capabilities of the image
    #[arg(long)]
    suid: bool,
    /// Honour device nodes of the image
    #[arg(long)]
    dev: bool,
    /// The image: NAME[:TAG][@DIGEST] or oci:DIR[:TAG]
    #[arg(value_name = "REF")]
    reference: String,
    /// An existing empty directory
    directory: PathBuf,
}

/// End a mount made by `brisk mount`
#[derive(Args, Clone, Debug)]
pub struct UmountArguments {
    /// The directory
    directory: PathBuf,
}

/// Mounts an image; returns when it is mounted.
pub fn mount(global: &GlobalOptions, arguments: &MountArguments) -> Result<(), CliError> {
    let directory = absolute(&arguments.directory)?;
    let request = Request::Mount {
        image: arguments.image.request(global, &arguments.reference)?,
        directory: directory.clone(),
        suid: arguments.suid,
        dev: arguments.dev,
    };
    ask(global, &request)?;
    if fuse::device::connection_id(&directory).is_ok() {
        return Ok(());
    }
    // The service works in the host's mount namespace, and this is another one.
    ask(global, &Request::Unmount { directory })?;
    let message = "the mount would not be seen in this mount namespace, which is not the host's";
    Err(CliError::new(message).hint("nsenter --target 1 --mount brisk mount ..."))
}

/// Checks that there is a FUSE device here: without one nothing can be mounted.
pub fn check_fuse() -> Result<(), CliError> {
    let is_device = |metadata: std::fs::Metadata| metadata.file_type().is_char_device();
    // The null device in its place is one as well, of another number (fuse(4): 10, 229).
    let number = rustix::fs::makedev(10, 229);
    let fits = std::fs::metadata(DEVICE).is_ok_and(|m| m.rdev() == number && is_device(m));
    if fits {
        return Ok(());
    }
    Err(
        CliError::new(format!("FUSE is needed, and there is no device {DEVICE}"))
            .hint("`modprobe fuse`; in a sandbox, let it have the device"),
    )
}

/// Ends a mount.
pub fn umount(global: &GlobalOptions, arguments: &UmountArguments) -> Result<(), CliError> {
    ask(
        global,
        &Request::Unmount {
            directory: absolute(&arguments.directory)?,
        },
    )
    .map(drop)
}
