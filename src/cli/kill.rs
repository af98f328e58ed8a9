//! `brisk kill`: sends containers a signal.

use super::error::CliError;
use super::global::GlobalOptions;
use super::several::for_each;
use brisk_container::signal::parse_signal;
use brisk_container::{ContainerError, Store, stop};

/// Options of `brisk kill`.
#[derive(Clone, Debug, clap::Args)]
pub struct KillArguments {
    /// Signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,

    /// Names, ids or beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Signals each container's first process and prints what the container was called.
pub fn run(global: &GlobalOptions, arguments: KillArguments) -> Result<u8, CliError> {
    let signal = parse_signal(&arguments.signal)
        .map_err(|reason| ContainerError::option("signal", &arguments.signal, reason))?;
    let store = Store::open(&global.root)?;
    for_each(&arguments.containers, |text| {
        stop::kill(&store.find(text)?, signal)?;
        Ok(text.to_owned())
    })
}
