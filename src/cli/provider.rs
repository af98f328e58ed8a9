//! What containers get their images from: the mount service of the root.

use std::os::fd::BorrowedFd;

use oci_spec::image::ImageConfiguration;

use crate::cli::global::GlobalOptions;
use crate::cli::image_request::{absolute_layout, docker_config};
use crate::cli::monitor::MonitorArguments;
use crate::cli::progress::ProgressLine;
use crate::cli::service::client;
use crate::daemon::client::ClientError;
use crate::daemon::control::{self, Background, Outcome, Program, Request};
use brisk_container::id::ContainerId;
use brisk_container::image::{AcquiredImage, ImageError, ImageProvider, ImageRequest};

/// Gets images from the mount service, starting it where none runs.
pub struct ServiceImages {
    global: GlobalOptions,
    background: Option<Background>,
    alone: bool,
}

impl ServiceImages {
    /// Images from the service of this root.
    pub fn new(global: GlobalOptions) -> Self {
        ServiceImages {
            global,
            background: None,
            alone: false,
        }
    }

    /// The same for the container of a monitor.
    pub fn for_monitor(global: GlobalOptions, arguments: &MonitorArguments) -> Self {
        ServiceImages {
            global,
            background: arguments.background,
            alone: arguments.alone,
        }
    }

    fn ask(
        &self,
        request: &Request,
        cancel: Option<BorrowedFd<'_>>,
    ) -> Result<Outcome, ImageError> {
        let client = client(&self.global).map_err(|e| ImageError::new(e.to_string()))?;
        let mut progress = ProgressLine::new();
        let outcome = client.ask_until(request, cancel, |event| progress.show(&event));
        progress.finish();
        outcome.map_err(image_error)
    }
}

impl ImageProvider for ServiceImages {
    fn acquire(&self, request: &ImageRequest<'_>) -> Result<AcquiredImage, ImageError> {
        let image = control::ImageRequest {
            reference: absolute_layout(&request.reference)
                .map_err(|e| ImageError::new(e.to_string()))?,
            platform: request.platform.clone(),
            plain_http: self.global.plain_http,
            docker_config: docker_config(),
            background: self.background,
        };
        let acquire = Request::Acquire {
            image,
            container: request.container.to_string(),
            program: Program {
                entrypoint: request.entrypoint.clone(),
                command: request.command.clone(),
                told_when_ready: request.told_when_ready,
                alone: self.alone,
            },
        };
        let outcome = self.ask(&acquire, request.cancel)?;
        let Outcome::Mounted(mounted) = outcome else {
            return Err(ImageError::new("the mount service answered something else"));
        };
        let config: ImageConfiguration = serde_json::from_str(&mounted.config)
            .map_err(|e| ImageError::new(format!("the image's config: {e}")))?;
        Ok(AcquiredImage {
            reference: mounted.reference,
            manifest_digest: mounted.manifest,
            rootfs: mounted.directory,
            config,
        })
    }

    fn ready(&self, container: &ContainerId) -> Result<(), ImageError> {
        let client = client(&self.global).map_err(|e| ImageError::new(e.to_string()))?;
        let container = container.to_string();
        // A service that is not there has nothing to record.
        client
            .ask_running(&Request::Ready { container })
            .map(drop)
            .map_err(image_error)
    }

    fn release(&self, container: &ContainerId) -> Result<(), ImageError> {
        self.ask(
            &Request::Release {
                container: container.to_string(),
            },
            None,
        )
        .map(drop)
    }
}

fn image_error(error: ClientError) -> ImageError {
    let retryable = matches!(error, ClientError::Connection { .. });
    let cancelled = matches!(error, ClientError::Cancelled);
    match error {
        ClientError::Failed(failure) => ImageError {
            hint: failure.hint,
            ..ImageError::new(failure.message)
        },
        other => ImageError {
            retryable,
            cancelled,
            ..ImageError::new(other.to_string())
        },
    }
}
