//! The options by which an image is named at the command line.

use std::path::PathBuf;

use clap::Args;

use crate::cli::error::{CliError, because, wrong_config};
use crate::cli::global::GlobalOptions;
use crate::cli::service::absolute;
use crate::daemon::config::Config;
use crate::daemon::control::{Background, ImageRequest};
use crate::daemon::query::Queries;
use brisk_image::{ImageError, Query};

/// How an image is named and fetched.
#[derive(Args, Clone, Debug)]
pub struct ImageOptions {
    /// Platform to choose, os/arch[/variant] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// What to fetch while nothing is asked for [default: full]
    #[arg(long, value_enum)]
    pub background: Option<Background>,
}

impl ImageOptions {
    /// The request for an image, with what the user's environment says of credentials.
    pub fn request(
        &self,
        global: &GlobalOptions,
        reference: &str,
    ) -> Result<ImageRequest, CliError> {
        Ok(ImageRequest {
            reference: absolute_layout(reference)?,
            platform: self.platform.clone(),
            plain_http: global.plain_http,
            docker_config: docker_config(),
            background: self.background,
        })
    }
}

/// The service has another working directory: a layout's directory must not depend on it.
pub fn absolute_layout(reference: &str) -> Result<String, CliError> {
    match reference.strip_prefix("oci:") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => {
            let directory = absolute(&PathBuf::from("."))?;
            Ok(format!("oci:{}/{rest}", directory.display()))
        }
        _ => Ok(reference.to_owned()),
    }
}

/// The directory of the user's docker configuration.
pub fn docker_config() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".docker")))
        .and_then(|path| std::path::absolute(path).ok())
}

/// The query that a reference on the command line means, for verbs that need no service.
pub fn query(
    global: &GlobalOptions,
    image: &ImageOptions,
    reference: &str,
) -> Result<Query, CliError> {
    let config = Config::load(global.config.as_deref()).map_err(wrong_config)?;
    let request = image.request(global, reference)?;
    Ok(Queries::new(config).query(&request, true)?)
}

/// An error of the image floor with its remedy.
pub fn image_error(error: ImageError) -> CliError {
    CliError {
        hint: error.hint(),
        ..because(error)
    }
}
