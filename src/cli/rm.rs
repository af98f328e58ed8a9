//! `brisk rm`: removes containers.

use super::error::CliError;
use super::global::GlobalOptions;
use super::several::for_each;
use brisk_container::store::{Container, Status};
use brisk_container::{ContainerError, ImageProvider, Store, cleanup, stop};

/// Options of `brisk rm`.
#[derive(Clone, Debug, clap::Args)]
pub struct RmArguments {
    /// Kill those that run
    #[arg(short, long)]
    pub force: bool,

    /// Names, ids or beginnings of ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Removes each container with all it wrote, and prints what it was called. With
/// `--force` one that does not exist is no error.
pub fn run(
    global: &GlobalOptions,
    arguments: RmArguments,
    provider: &dyn ImageProvider,
) -> Result<u8, CliError> {
    let store = Store::open(&global.root)?;
    for_each(&arguments.containers, |text| {
        match store.find(text) {
            Ok(container) => remove(&store, &container, arguments.force, provider)?,
            Err(error) if arguments.force && error.is_no_such_container() => {}
            Err(error) => return Err(error),
        }
        Ok(text.to_owned())
    })
}

fn remove(
    store: &Store,
    container: &Container,
    force: bool,
    provider: &dyn ImageProvider,
) -> Result<(), ContainerError> {
    let status = container.status()?;
    match status {
        Status::Exited { .. } => {}
        Status::Running if force => stop::stop_at_once(container)?,
        Status::Running | Status::Creating => {
            return Err(ContainerError::WrongState {
                container: container.id.short().to_owned(),
                state: status.word().to_owned(),
                verb: "remove",
            });
        }
    }
    // The end is known before everything is cleared away.
    stop::wait_for_monitor(container)?;
    if !container.directory.exists() {
        return Ok(());
    }
    cleanup::remove(store, container, provider)
}
