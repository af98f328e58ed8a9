//! One file per verb: parses, dispatches, maps errors to exit codes.

pub mod error;
pub mod exec;
pub mod global;
pub mod image_request;
pub mod images;
pub mod index;
pub mod inspect;
pub mod kill;
pub mod logs;
pub mod monitor;
pub mod mount;
pub mod output;
pub mod progress;
pub mod provider;
pub mod ps;
pub mod rm;
pub mod run;
pub mod service;
pub mod several;
pub mod stop;
pub mod table;
pub mod wait;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::cli::error::{CliError, because};
use crate::cli::global::{GlobalOptions, LogFormat};
use crate::cli::provider::ServiceImages;

/// Starts containers before their image has arrived
#[derive(Parser, Debug)]
#[command(
    name = "brisk",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct CommandLine {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run a program in a new container of an image
    Run(Box<run::RunArguments>),
    /// List containers
    Ps(ps::PsArguments),
    /// Print what a container wrote
    Logs(logs::LogsArguments),
    /// Run another program in a running container
    Exec(exec::ExecArguments),
    /// Ask containers to end, and kill those that do not
    Stop(stop::StopArguments),
    /// Send a signal to containers
    Kill(kill::KillArguments),
    /// Wait for containers to end and print their exit codes
    Wait(wait::WaitArguments),
    /// Remove containers
    Rm(rm::RmArguments),
    Mount(mount::MountArguments),
    Umount(mount::UmountArguments),
    Pull(images::PullArguments),
    Images(images::ImagesArguments),
    Rmi(images::RmiArguments),
    Prune(images::PruneArguments),
    Inspect(inspect::InspectArguments),
    Status(inspect::StatusArguments),
    #[command(subcommand)]
    Index(index::IndexCommand),
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
    #[command(hide = true)]
    Monitor(monitor::MonitorArguments),
    #[command(hide = true)]
    Service(service::ProcessArguments),
    #[command(hide = true)]
    Keeper(service::ProcessArguments),
    /// Stop the mount service; mounts stay, and wait for the next one
    #[command(hide = true)]
    ServiceStop(service::StopArguments),
}

/// Parses the command line, carries out its verb and says what went wrong; gives the exit code.
pub fn main() -> u8 {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return usage_code(&error);
        }
    };
    start_log(&line.global);
    match line.verb.carry_out(&line.global) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("brisk: {error}");
            error.exit_code
        }
    }
}

/// `run` keeps the codes below 125 for the program; a wrong command line of it is 125.
fn usage_code(error: &clap::Error) -> u8 {
    let is_run = std::env::args()
        .skip(1)
        .find(|a| !a.starts_with('-'))
        .as_deref()
        == Some("run");
    match error.use_stderr() {
        false => 0,
        true if is_run => 125,
        true => 2,
    }
}

impl Verb {
    fn carry_out(self, global: &GlobalOptions) -> Result<u8, CliError> {
        let images = || ServiceImages::new(global.clone(), None);
        match self {
            Verb::Run(arguments) => run::run(global, *arguments),
            Verb::Ps(arguments) => ps::run(global, arguments),
            Verb::Logs(arguments) => logs::run(global, arguments),
            Verb::Exec(arguments) => exec::run(global, arguments),
            Verb::Stop(arguments) => stop::run(global, arguments),
            Verb::Kill(arguments) => kill::run(global, arguments),
            Verb::Wait(arguments) => wait::run(global, arguments),
            Verb::Rm(arguments) => rm::run(global, arguments, &images()),
            Verb::Mount(arguments) => mount::mount(global, &arguments).map(|()| 0),
            Verb::Umount(arguments) => mount::umount(global, &arguments).map(|()| 0),
            Verb::Pull(arguments) => images::pull(global, &arguments).map(|()| 0),
            Verb::Images(arguments) => images::images(global, &arguments).map(|()| 0),
            Verb::Rmi(arguments) => images::rmi(global, &arguments).map(|()| 0),
            Verb::Prune(arguments) => images::prune(global, &arguments).map(|()| 0),
            Verb::Inspect(arguments) => inspect::inspect(global, &arguments).map(|()| 0),
            Verb::Status(arguments) => inspect::status(global, &arguments).map(|()| 0),
            Verb::Index(command) => index::run(global, &command).map(|()| 0),
            Verb::Completions { shell } => {
                let mut command = CommandLine::command();
                clap_complete::generate(shell, &mut command, "brisk", &mut std::io::stdout());
                Ok(0)
            }
            Verb::Man => clap_mangen::Man::new(CommandLine::command())
                .render(&mut std::io::stdout())
                .map(|()| 0)
                .map_err(because),
            Verb::Monitor(arguments) => {
                monitor::run(&ServiceImages::new(global.clone(), arguments.background))
            }
            Verb::Service(arguments) => service::service(global, &arguments).map(|()| 0),
            Verb::Keeper(arguments) => service::keeper(global, &arguments).map(|()| 0),
            Verb::ServiceStop(arguments) => service::stop(global, &arguments).map(|()| 0),
        }
    }
}

fn start_log(global: &GlobalOptions) {
    let filter = tracing_subscriber::EnvFilter::new(global.log_level.to_string());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second call would fail; there is none.
    let _ = match global.log_format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn global_options_go_before_and_after_the_verb() {
        for words in [
            ["brisk", "--root", "/r", "images"],
            ["brisk", "images", "--root", "/r"],
        ] {
            let line = CommandLine::try_parse_from(words).unwrap();
            assert_eq!(line.global.root, std::path::Path::new("/r"));
        }
    }
}
