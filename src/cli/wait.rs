//! `brisk wait`: waits for containers to end.

use super::error::CliError;
use super::global::GlobalOptions;
use super::several::for_each;
use brisk_container::store::Status;
use brisk_container::{ContainerError, Store};

/// Printed for a container whose exit code nobody saw (a reboot, a killed monitor).
const UNKNOWN_CODE: u8 = 255;

/// Options of `brisk wait`.
#[derive(Clone, Debug, clap::Args)]
pub struct WaitArguments {
    /// Names, ids or beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Waits for the end of each container and prints its exit code. A container whose end was
/// seen by nobody has code 255.
pub fn run(global: &GlobalOptions, arguments: WaitArguments) -> Result<u8, CliError> {
    let store = Store::open(&global.root)?;
    for_each(&arguments.containers, |text| {
        let container = store.find(text)?;
        let left = match container.watch() {
            Ok(mut watch) => watch.wait()?,
            Err(ContainerError::File { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(code) = left {
            return Ok(code.to_string());
        }
        // The monitor died first: its container may still be running.
        if let Some(process) = container
            .state()
            .ok()
            .and_then(|state| state.init)
            .and_then(|init| init.open())
        {
            while !process.wait(std::time::Duration::from_secs(3600)) {}
        }
        match container.status() {
            Ok(Status::Exited { code: Some(code) }) => Ok(code.to_string()),
            _ => Ok(UNKNOWN_CODE.to_string()),
        }
    })
}
