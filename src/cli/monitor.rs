//! `brisk monitor`, hidden: the process that looks after one container.

use super::error::CliError;
use crate::container::ImageProvider;
use crate::container::monitor;

/// The monitor is told everything over its standard input.
#[derive(Clone, Debug, clap::Args)]
pub struct MonitorArguments {}

/// Looks after one container until its end.
pub fn run(_arguments: MonitorArguments, provider: &dyn ImageProvider) -> Result<u8, CliError> {
    monitor::run(provider)?;
    Ok(0)
}
