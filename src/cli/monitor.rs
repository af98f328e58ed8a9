//! `brisk monitor`, hidden: the process that looks after one container.

use super::error::CliError;
use crate::daemon::control::Background;
use brisk_container::ImageProvider;
use brisk_container::monitor;

/// The monitor is told everything else over its standard input.
#[derive(Clone, Debug, clap::Args)]
pub struct MonitorArguments {
    /// What to fetch while nothing is asked for
    #[arg(long, value_enum)]
    pub background: Option<Background>,
    /// Have a mount that no other container shares
    #[arg(long)]
    pub alone: bool,
}

/// Looks after one container until its end.
pub fn run(provider: &dyn ImageProvider) -> Result<u8, CliError> {
    monitor::run(provider)?;
    Ok(0)
}
