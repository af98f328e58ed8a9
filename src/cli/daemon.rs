//! `brisk daemon`: the mount service in the foreground, with containerd's snapshots.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use clap::Args;

use crate::cli::error::{CliError, because, wrong_config};
use crate::cli::global::GlobalOptions;
use crate::cli::output::line;
use crate::cli::service::{StopArguments, absolute, commands, start_options, stop};
use crate::daemon::config::Config;
use crate::daemon::process::{self, ProcessError};
use crate::daemon::settings::Settings;

/// Where containerd finds the snapshotter unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/brisk/snapshotter.sock";
/// Services that commands start may come first this often.
const ATTEMPTS: usize = 20;

/// Serve snapshots to containerd and mounts to brisk, in the foreground
///
/// In containerd's configuration:
///     [proxy_plugins.brisk]
///       type = "snapshot"
///       address = "/run/brisk/snapshotter.sock"
///
/// SIGTERM ends it: mounts stay, held by the keeper, and wait for the next start.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct DaemonArguments {
    /// Socket of the snapshotter, for root alone
    #[arg(long, visible_alias = "snapshotter-socket", value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,

    /// Take every mount down at the end
    #[arg(long)]
    exit_unmount: bool,

    /// Only look whether the configuration can be used
    #[arg(long)]
    pub check_config: bool,
}

/// Runs until a signal or `service-stop`.
pub fn run(global: &GlobalOptions, arguments: &DaemonArguments) -> Result<(), CliError> {
    if arguments.check_config {
        let path = Config::check(global.config.as_deref()).map_err(wrong_config)?;
        return match path.exists() {
            true => line(format_args!("{} can be used", path.display())),
            false => line(format_args!("no {}: the defaults hold", path.display())),
        };
    }
    let root = absolute(&global.root)?;
    let socket = absolute(&arguments.socket)?;
    let _only = only_daemon(global)?;
    let mut attempts = 0;
    loop {
        // A service that a command started in the background goes; its mounts are taken over.
        stop(global, &StopArguments { unmount: false })?;
        let result = process::run(process::Options {
            root: root.clone(),
            config: Config::load(global.config.as_deref()).map_err(wrong_config)?,
            commands: commands(global)?,
            end_when_idle: false,
            snapshotter: Some(socket.clone()),
            unmount_at_end: arguments.exit_unmount,
            settings: Settings::of_process(start_options(global)?),
        });
        attempts += 1;
        match result {
            Err(ProcessError::Locked { .. }) if attempts < ATTEMPTS => {}
            other => return other.map_err(because),
        }
    }
}

/// Held while a daemon runs on the root.
fn only_daemon(global: &GlobalOptions) -> Result<File, CliError> {
    let run = absolute(&global.root)?.join("run");
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(&run).map_err(because)?;
    let file = File::create(run.join("daemon.lock")).map_err(because)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(because(error)),
        Err(TryLockError::WouldBlock) => Err(CliError::new(format!(
            "another brisk daemon has the root {}",
            global.root.display()
        ))
        .hint("stop it, or name another root: --root DIR")),
    }
}
