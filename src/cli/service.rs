//! The hidden verbs that are the processes of a root: `service` and `keeper`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::error::{CliError, because, wrong_config};
use crate::cli::global::GlobalOptions;
use crate::daemon::client::{Client, make_private_directory};
use crate::daemon::config::Config;
use crate::daemon::control::{Outcome, Request};
use crate::daemon::process;
use crate::daemon::settings::{Settings, StartOptions};
use brisk_mount::{Commands, keeper, namespace};

/// Arguments of the hidden verbs.
#[derive(Args, Clone, Debug)]
pub struct ProcessArguments {
    /// Go to the background as soon as the arguments are understood
    #[arg(long)]
    detach: bool,
}

/// Arguments of `service-stop`.
#[derive(Args, Clone, Debug)]
pub struct StopArguments {
    /// Take every mount down as well
    #[arg(long)]
    pub unmount: bool,
}

/// Runs the mount service of a root until nothing needs it.
pub fn service(global: &GlobalOptions, arguments: &ProcessArguments) -> Result<(), CliError> {
    // A mistake in the configuration is said while somebody listens.
    let config = Config::load(global.config.as_deref()).map_err(wrong_config)?;
    let root = absolute(&global.root)?;
    detach(arguments)?;
    enter_host(global)?;
    process::run(process::Options {
        commands: commands(global)?,
        settings: Settings::of_process(start_options(global)?),
        root,
        config,
        end_when_idle: true,
        snapshotter: None,
        unmount_at_end: false,
    })
    .map_err(because)
}

/// Runs the keeper of a root until it holds nothing.
pub fn keeper(global: &GlobalOptions, arguments: &ProcessArguments) -> Result<(), CliError> {
    let run = absolute(&global.root)?.join("run");
    detach(arguments)?;
    keeper::run(&run).map_err(because)
}

/// Stops the service of a root, where one runs, and waits until it has ended.
pub fn stop(global: &GlobalOptions, arguments: &StopArguments) -> Result<(), CliError> {
    let request = Request::Stop {
        unmount: arguments.unmount,
    };
    // Where none runs, its mounts may still be held: only a service can take them down.
    if arguments.unmount && absolute(&global.root)?.join("run/keeper.sock").exists() {
        client(global)?.ask(&request, |_| {})?;
    } else {
        client(global)?.ask_running(&request)?;
    }
    wait_until_unlocked(&absolute(&global.root)?.join("run/service.lock"))
}

/// Starts the service where it was stopped while mounts are held: a program that touches one of
/// them would wait for it.
pub fn ensure(global: &GlobalOptions) -> Result<(), CliError> {
    if absolute(&global.root)?.join("run/keeper.sock").exists() {
        client(global)?.ask(&Request::Status, |_| {})?;
    }
    Ok(())
}

/// Waits until the process that holds a lock file has ended.
fn wait_until_unlocked(path: &Path) -> Result<(), CliError> {
    match std::fs::File::open(path) {
        // Exclusive, as the service takes it; released again at once.
        Ok(file) => file.lock().map_err(because),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(because(error)),
    }
}

fn detach(arguments: &ProcessArguments) -> Result<(), CliError> {
    if arguments.detach {
        // No thread has been started yet, so nothing is lost by the fork.
        nix::unistd::daemon(false, true).map_err(because)?;
    }
    Ok(())
}

/// Moves this process into the host's mount namespace, where the root, this program and the
/// configuration are the same there. One that cannot move works where it is.
pub fn enter_host(global: &GlobalOptions) -> Result<(), CliError> {
    let (root, program) = (
        absolute(&global.root)?,
        std::env::current_exe().map_err(because)?,
    );
    let config = global.config.as_deref().map(absolute).transpose()?;
    // It is about to be used; only what exists can be compared.
    make_private_directory(&root).map_err(because)?;
    let mut paths = vec![root.as_path(), program.as_path()];
    paths.extend(config.as_deref());
    if let Err(error) = namespace::enter_host(&paths) {
        tracing::warn!(%error, "the host's mount namespace cannot be entered");
    }
    Ok(())
}

/// How keeper and service of this root are started.
pub fn commands(global: &GlobalOptions) -> Result<Commands, CliError> {
    let service = service_command(global)?;
    let mut keeper = vec![
        service[0].clone(),
        "keeper".to_owned(),
        "--detach".to_owned(),
    ];
    keeper.extend(["--root".to_owned(), path_text(&absolute(&global.root)?)?]);
    Ok(Commands { keeper, service })
}

/// Program and arguments of this root's service, in the foreground.
fn service_command(global: &GlobalOptions) -> Result<Vec<String>, CliError> {
    let program = std::env::current_exe().map_err(because)?;
    let mut command = vec![path_text(&program)?, "service".to_owned()];
    for argument in global.to_arguments() {
        command.push(path_text(Path::new(&argument))?);
    }
    Ok(command)
}

/// A client of this root's service, which starts it in the background when none runs.
pub fn client(global: &GlobalOptions) -> Result<Client, CliError> {
    let mut start = service_command(global)?;
    start.push("--detach".to_owned());
    let options = start_options(global)?;
    Ok(Client::new(&absolute(&global.root)?, start, options))
}

/// The options that the service of this root takes from this command, where it starts it.
pub fn start_options(global: &GlobalOptions) -> Result<StartOptions, CliError> {
    Ok(StartOptions {
        config: global.config.as_deref().map(absolute).transpose()?,
        log_level: global.log_level.map(|level| level.to_string()),
        log_format: global.log_format.map(|format| format.to_string()),
    })
}

/// Asks the service, with progress and warnings on stderr.
pub fn ask(global: &GlobalOptions, request: &Request) -> Result<Outcome, CliError> {
    let mut progress = crate::cli::progress::ProgressLine::new();
    let outcome = client(global)?.ask(request, |event| progress.show(&event));
    progress.finish();
    Ok(outcome?)
}

/// A path that does not depend on the working directory.
pub fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(because)
}

fn path_text(path: &Path) -> Result<String, CliError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        CliError::new(format!("path {} is not UTF-8", path.display())).hint("use a path that is")
    })
}
