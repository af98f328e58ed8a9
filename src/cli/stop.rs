//! `brisk stop`: ends containers, politely first.

use super::error::CliError;
use super::global::GlobalOptions;
use super::several::for_each;
use brisk_container::{Store, stop};
use std::time::Duration;

/// Ask containers to end, and kill those that do not
///
/// Sends the image's stop signal (SIGTERM where it names none), waits, then sends SIGKILL. A
/// program that neither handles nor ignores nor blocks the signal would never see it, as the
/// first process of its pid namespace: it is killed after a second instead of the whole time.
#[derive(Clone, Debug, clap::Args)]
pub struct StopArguments {
    /// Seconds between the stop signal and SIGKILL (default: the container's, else 10)
    #[arg(short, long, value_name = "SECONDS")]
    pub time: Option<u32>,

    /// Names, ids or beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Stops each container and prints what it was called; those that have ended are left
/// alone.
pub fn run(global: &GlobalOptions, arguments: StopArguments) -> Result<u8, CliError> {
    let store = Store::open(&global.root)?;
    let timeout = arguments
        .time
        .map(|seconds| Duration::from_secs(u64::from(seconds)));
    for_each(&arguments.containers, |text| {
        let container = store.find(text)?;
        stop::stop(&container, timeout)?;
        Ok(text.to_owned())
    })
}
