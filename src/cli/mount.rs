//! `brisk mount` and `brisk umount`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::ImageOptions;
use crate::cli::service::{absolute, ask};
use crate::daemon::control::Request;

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
    let request = Request::Mount {
        image: arguments.image.request(global, &arguments.reference)?,
        directory: absolute(&arguments.directory)?,
        suid: arguments.suid,
        dev: arguments.dev,
    };
    ask(global, &request).map(drop)
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
