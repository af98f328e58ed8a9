//! One file per verb: parses, dispatches, maps errors to exit codes.

pub mod copy;
pub mod daemon;
pub mod error;
pub mod exec;
pub mod global;
pub mod image_request;
pub mod images;
pub mod index;
pub mod inspect;
pub mod key;
pub mod kill;
pub mod logs;
pub mod monitor;
pub mod mount;
pub mod output;
pub mod pack;
pub mod progress;
pub mod provider;
pub mod ps;
pub mod record;
pub mod remote;
pub mod repository;
pub mod rm;
pub mod run;
pub mod service;
pub mod several;
pub mod stop;
pub mod table;
pub mod timeline;
pub mod wait;

use std::io::IsTerminal;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::cli::error::{CliError, EXIT_FAILED, because, wrong_config};
use crate::cli::global::{GlobalOptions, LogFormat};
use crate::cli::output::say;
use crate::cli::provider::ServiceImages;
use crate::daemon::config::Config;
use brisk_container::error::EXIT_BRISK_FAILED;

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
    /// Run a program and record what it reads until it is ready, for the starts to come
    Record(Box<run::RunArguments>),
    /// List containers
    Ps(ps::PsArguments),
    /// Print what a container wrote
    Logs(logs::LogsArguments),
    /// Run another program in a running container
    Exec(exec::ExecArguments),
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
    Daemon(daemon::DaemonArguments),
    Copy(copy::CopyArguments),
    Push(copy::PushArguments),
    Tags(repository::TagsArguments),
    Delete(repository::DeleteArguments),
    #[command(subcommand)]
    Index(index::IndexCommand),
    #[command(subcommand)]
    Pack(pack::PackCommand),
    #[command(subcommand)]
    Key(key::KeyCommand),
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
    let failed_code = line.verb.failed_code();
    let checked = check(&line).map_err(|error| CliError {
        exit_code: failed_code,
        ..error
    });
    match checked.and_then(|()| line.verb.carry_out(&line.global)) {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("brisk: {error}"));
            error.exit_code
        }
    }
}

/// What would fail later, and in other words.
fn check(line: &CommandLine) -> Result<(), CliError> {
    if !line.verb.works_on_a_root() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(
            CliError::new("this needs root: brisk mounts images and starts containers")
                .hint("run it as root, for example by sudo"),
        );
    }
    if line.verb.mounts() {
        mount::check_fuse()?;
    }
    let root = &line.global.root;
    if root.exists() && !root.is_dir() {
        return Err(
            CliError::new(format!("root {} is not a directory", root.display()))
                .hint("name a directory, or one that can be made: --root DIR"),
        );
    }
    // A mistake in it would else be found by the service, which has no terminal.
    Config::load(line.global.config.as_deref())
        .map(drop)
        .map_err(wrong_config)
}

/// `run` keeps the codes below 125 for the program; a wrong command line of it is 125.
fn usage_code(error: &clap::Error) -> u8 {
    match error.use_stderr() {
        false => 0,
        true if is_run(std::env::args().skip(1)) => EXIT_BRISK_FAILED,
        true => 2,
    }
}

/// Whether the verb of a command line, which may be wrong, is `run`.
fn is_run(mut words: impl Iterator<Item = String>) -> bool {
    let global = GlobalOptions::augment_args(clap::Command::new("brisk"));
    let takes_value = |word: &str| {
        global.get_arguments().any(|argument| {
            argument.get_action().takes_values() && argument.get_long() == word.strip_prefix("--")
        })
    };
    while let Some(word) = words.next() {
        if takes_value(&word) {
            words.next();
        } else if !word.starts_with('-') {
            return word == "run" || word == "record";
        }
    }
    false
}

impl Verb {
    /// Exit code where brisk cannot even begin.
    fn failed_code(&self) -> u8 {
        match self {
            Verb::Run(_) | Verb::Record(_) => EXIT_BRISK_FAILED,
            _ => EXIT_FAILED,
        }
    }

    /// Whether it needs the privileges to mount, a root and a configuration.
    fn works_on_a_root(&self) -> bool {
        match self {
            Verb::Index(_)
            | Verb::Copy(_)
            | Verb::Push(_)
            | Verb::Tags(_)
            | Verb::Delete(_)
            | Verb::Key(_)
            | Verb::Completions { .. }
            | Verb::Man
            | Verb::Keeper(_) => false,
            Verb::Daemon(arguments) => !arguments.check_config,
            _ => true,
        }
    }

    /// Whether it mounts an image.
    fn mounts(&self) -> bool {
        matches!(self, Verb::Run(_) | Verb::Record(_) | Verb::Mount(_))
    }

    fn carry_out(self, global: &GlobalOptions) -> Result<u8, CliError> {
        let images = || ServiceImages::new(global.clone());
        match self {
            Verb::Run(arguments) => run::run(global, *arguments),
            Verb::Record(arguments) => record::record(global, *arguments),
            Verb::Ps(arguments) => ps::run(global, arguments),
            Verb::Logs(arguments) => logs::run(global, arguments),
            Verb::Exec(arguments) => {
                service::ensure(global)?;
                exec::run(global, arguments)
            }
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
            Verb::Daemon(arguments) => daemon::run(global, &arguments).map(|()| 0),
            Verb::Copy(arguments) => copy::copy(global, &arguments).map(|()| 0),
            Verb::Push(arguments) => copy::push(global, &arguments).map(|()| 0),
            Verb::Tags(arguments) => repository::tags(global, &arguments).map(|()| 0),
            Verb::Delete(arguments) => repository::delete(global, &arguments).map(|()| 0),
            Verb::Key(command) => key::run(&command).map(|()| 0),
            Verb::Index(command) => index::run(global, &command).map(|()| 0),
            Verb::Pack(command) => pack::run(global, command).map(|()| 0),
            Verb::Completions { shell } => {
                let mut command = CommandLine::command();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command, "brisk", &mut script);
                output::print_bytes(&script).map(|()| 0)
            }
            Verb::Man => {
                let mut page = Vec::new();
                clap_mangen::Man::new(CommandLine::command())
                    .render(&mut page)
                    .map_err(because)?;
                output::print_bytes(&page).map(|()| 0)
            }
            Verb::Monitor(arguments) => {
                let images = ServiceImages::for_monitor(global.clone(), &arguments);
                // Where the service mounts, and for as long as the container lives.
                service::enter_host(global)?;
                monitor::run(&images)
            }
            Verb::Service(arguments) => service::service(global, &arguments).map(|()| 0),
            Verb::Keeper(arguments) => service::keeper(global, &arguments).map(|()| 0),
            Verb::ServiceStop(arguments) => service::stop(global, &arguments).map(|()| 0),
        }
    }
}

fn start_log(global: &GlobalOptions) {
    let filter =
        tracing_subscriber::EnvFilter::new(global.log_level.unwrap_or_default().to_string());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // It would be told on the very stderr that failed, by a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // A second call would fail; there is none.
    let _ = match global.log_format.unwrap_or_default() {
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
    fn run_is_found_behind_global_options() {
        for (line, is) in [
            ("run --nosuch", true),
            ("--root run images", false),
            ("--root /r --plain-http run --x", true),
            ("--root=/r run", true),
            ("--log-level debug exec run", false),
            ("--nosuch run", true),
            ("", false),
        ] {
            assert_eq!(
                is_run(line.split_whitespace().map(str::to_owned)),
                is,
                "{line}"
            );
        }
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
