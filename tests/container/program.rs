//! The program under test: the verbs of the command line over a directory of images.

use brisk::cli::global::GlobalOptions;
use brisk::cli::{exec, kill, logs, monitor, ps, rm, run, stop, wait};
use brisk_container::{AcquiredImage, ContainerId, ImageError, ImageProvider, ImageRequest};
use clap::Parser;
use oci_spec::image::ImageConfiguration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::PathBuf;
use std::process::ExitCode;

/// Variable with the directory of images: `NAME/rootfs` and `NAME/config.json` each.
pub const IMAGES: &str = "BRISK_TEST_IMAGES";
/// An image whose preparation takes longer than any test.
pub const SLOW: &str = "slow";
/// File in the directory of images: while it exists, the mount service is away.
pub const AWAY: &str = "away";
/// Directory in the directory of images: a file for each container that holds its image.
pub const HOLDS: &str = "holds";

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Exec(exec::ExecArguments),
    Kill(kill::KillArguments),
    Logs(logs::LogsArguments),
    Monitor,
    Ps(ps::PsArguments),
    Rm(rm::RmArguments),
    Run(Box<run::RunArguments>),
    Stop(stop::StopArguments),
    Wait(wait::WaitArguments),
}

pub fn main() -> ExitCode {
    let line = Line::parse();
    let global = &line.global;
    let images = PathBuf::from(std::env::var_os(IMAGES).unwrap());
    let provider = DirectoryProvider { images };
    let result = match line.verb {
        Verb::Exec(arguments) => exec::run(global, arguments),
        Verb::Kill(arguments) => kill::run(global, arguments),
        Verb::Logs(arguments) => logs::run(global, arguments),
        Verb::Monitor => monitor::run(&provider),
        Verb::Ps(arguments) => ps::run(global, arguments),
        Verb::Rm(arguments) => rm::run(global, arguments, &provider),
        Verb::Run(arguments) => run::run(global, *arguments),
        Verb::Stop(arguments) => stop::run(global, arguments),
        Verb::Wait(arguments) => wait::run(global, arguments),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("brisk: {error}");
            ExitCode::from(error.exit_code)
        }
    }
}

/// Images that are directories.
struct DirectoryProvider {
    images: PathBuf,
}

impl DirectoryProvider {
    fn hold(&self, container: &ContainerId) -> PathBuf {
        self.images.join(HOLDS).join(container.as_str())
    }
}

impl ImageProvider for DirectoryProvider {
    fn acquire(&self, request: &ImageRequest<'_>) -> Result<AcquiredImage, ImageError> {
        std::fs::write(self.hold(&request.container), "").unwrap();
        if request.reference == SLOW {
            let cancel = request.cancel.unwrap();
            let limit = Timespec {
                tv_sec: 120,
                tv_nsec: 0,
            };
            let mut fds = [PollFd::from_borrowed_fd(cancel, PollFlags::IN)];
            poll(&mut fds, Some(&limit)).unwrap();
            return Err(ImageError {
                cancelled: true,
                ..ImageError::new("cancelled")
            });
        }
        let image = self.images.join(&request.reference);
        let config = ImageConfiguration::from_file(image.join("config.json"))
            .map_err(|error| ImageError::new(format!("no image {}: {error}", request.reference)))?;
        Ok(AcquiredImage {
            reference: format!("test/{}:latest", request.reference),
            manifest_digest: format!("sha256:{}", "0".repeat(64)),
            rootfs: image.join("rootfs"),
            config,
        })
    }

    fn ready(&self, _: &ContainerId) -> Result<(), ImageError> {
        Ok(())
    }

    fn release(&self, container: &ContainerId) -> Result<(), ImageError> {
        if self.images.join(AWAY).exists() {
            return Err(ImageError {
                retryable: true,
                ..ImageError::new("the service is away")
            });
        }
        // A container that holds no image is no error.
        let _ = std::fs::remove_file(self.hold(container));
        Ok(())
    }
}
