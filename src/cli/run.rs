//! `brisk run`: starts a container, and stays with it unless it is detached.

use super::error::CliError;
use super::global::GlobalOptions;
use super::timeline::{Format, Timeline};
use crate::daemon::config::parse_duration;
use crate::daemon::control::Background;
use brisk_container::attach::{OnFirstOutput, attach};
use brisk_container::launch::{MonitorCommand, launch};
use brisk_container::options::{Limits, Network, RunOptions};
use brisk_container::spec::environment::{MAX_ENV_FILE_BYTES, parse_file, parse_variable};
use brisk_container::spec::resources;
use brisk_container::spec::volumes::{Volume, parse_tmpfs, parse_volume};
use brisk_container::terminal::window_size;
use brisk_container::{ContainerError, runtime, signal, size};
use clap::ValueEnum;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Options of `brisk run`.
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct RunArguments {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// Remove the container when it has ended
    #[arg(long)]
    pub rm: bool,

    /// Print the container's id and return; its output goes to its log
    #[arg(short, long)]
    pub detach: bool,

    /// Name of the container (default: its short id)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// What to fetch while nothing is asked for [default: full]
    #[arg(long, value_enum)]
    pub background: Option<Background>,

    /// Say on stderr, at the end, when the parts of the start were done and what was fetched
    /// until the first output
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        conflicts_with = "detach"
    )]
    pub timeline: Option<Format>,

    /// Set a variable; KEY alone takes its value from the environment
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,

    /// Set the variables of a file, one a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,

    /// Show a path of the host in the container; without HOST, and for the volumes of the
    /// image, the content lives and goes with the container
    #[arg(short, long, value_name = "[HOST:]CONTAINER[:ro]")]
    pub volume: Vec<String>,

    /// Mount a memory file system
    #[arg(long, value_name = "CONTAINER[:OPTIONS]")]
    pub tmpfs: Vec<String>,

    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,

    /// User and group, names of the image or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Replace the image's entrypoint, and drop its command
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,

    /// Make the container's root file system read-only
    #[arg(long)]
    pub read_only: bool,

    /// Host name (default: the host's own, with --net none the short id)
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,

    /// Most memory, such as 512m or 2g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,

    /// Most processor time, in processors, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,

    /// Most processes and threads; 0 or -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,

    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,

    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,

    /// All capabilities and devices, no seccomp, no hidden paths
    #[arg(long)]
    pub privileged: bool,

    /// Network: the host's, or none but a loopback device. (There is no bridge yet.)
    #[arg(
        long,
        visible_alias = "network",
        value_name = "NET",
        default_value = "host"
    )]
    pub net: NetworkArgument,

    /// Pass our input to the container
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Platform of the image, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,

    /// OCI runtime, a path or a name (default: brisk-runtime beside brisk, then in PATH)
    #[arg(long, value_name = "PATH")]
    pub runtime: Option<String>,

    /// Seconds between `brisk stop`'s signal and SIGKILL (default: 10)
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,

    /// Signal of `brisk stop` (default: the image's, else TERM)
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,

    /// Count the container as ready this long after its start, such as 30s, and not at its first
    /// output or listening port; what it reads until then is there sooner next time
    #[arg(long, value_name = "DURATION")]
    pub ready_after: Option<String>,

    /// Label the container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,

    /// Image reference, or oci:DIR:TAG for a layout directory
    #[arg(value_name = "REF")]
    pub image: String,

    /// Program and arguments, in place of the image's command
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
}

/// Value of `--net`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum NetworkArgument {
    /// The host's network.
    Host,
    /// A loopback device alone.
    None,
}

/// Starts the container; gives its program's exit code, 0 when detached.
///
/// # Errors
/// With exit code 125 for brisk's own failures, 126 and 127 for programs that cannot be
/// executed or found, 128+n where signal n ended the preparation.
pub fn run(global: &GlobalOptions, arguments: RunArguments) -> Result<u8, CliError> {
    start(global, arguments, false)
}

/// As [`run`]; with `alone`, on a mount that no other container shares.
///
/// # Errors
/// As [`run`].
pub fn start(global: &GlobalOptions, arguments: RunArguments, alone: bool) -> Result<u8, CliError> {
    let began = Instant::now();
    let (detach, background) = (arguments.detach, arguments.background);
    let format = arguments.timeline;
    let options = options(arguments).map_err(CliError::of_program)?;
    let mut monitor_arguments = global.to_arguments();
    monitor_arguments.push("monitor".into());
    if let Some(background) = background.and_then(|b| b.to_possible_value()) {
        monitor_arguments.extend(["--background".into(), background.get_name().into()]);
    }
    if alone {
        monitor_arguments.push("--alone".into());
    }
    let monitor = MonitorCommand {
        program: PathBuf::from("/proc/self/exe"),
        arguments: monitor_arguments,
    };
    let terminal = options.terminal;
    let launched = launch(&monitor, &global.root, options, detach).map_err(CliError::of_program)?;
    if detach {
        // The container runs, whether or not somebody reads its id.
        let _ = writeln!(std::io::stdout(), "{}", launched.id);
        return Ok(0);
    }
    let timeline = format.map(|format| Timeline::started(global, format, began, &launched.id));
    let on_first_output = timeline
        .clone()
        .map(|timeline| -> OnFirstOutput { Box::new(move || timeline.first_output()) });
    let code = attach(launched, terminal, on_first_output).map_err(CliError::of_program)?;
    if let Some(timeline) = timeline {
        timeline.print();
    }
    Ok(code)
}

/// Checks what was asked for and brings it into the monitor's form.
pub fn options(arguments: RunArguments) -> Result<RunOptions, ContainerError> {
    let limits = limits(&arguments)?;
    let runtime = runtime::locate(arguments.runtime.as_deref())?;
    let working_directory =
        std::env::current_dir().map_err(ContainerError::file("resolve", Path::new(".")))?;
    let (mut binds, mut anonymous_volumes) = (Vec::new(), Vec::new());
    for text in &arguments.volume {
        let invalid = |reason: String| ContainerError::option("volume", text, reason);
        match parse_volume(text, &working_directory).map_err(invalid)? {
            Volume::Bind(bind) => binds.push(bind),
            Volume::Anonymous(path) => anonymous_volumes.push(path),
        }
    }
    let mut tmpfs = Vec::new();
    for text in &arguments.tmpfs {
        tmpfs.push(parse_tmpfs(text).map_err(|r| ContainerError::option("tmpfs", text, r))?);
    }
    let stop_signal = arguments.stop_signal.as_deref().map(|text| {
        signal::parse_signal(text).map_err(|r| ContainerError::option("stop-signal", text, r))
    });
    let ready_after = arguments.ready_after.as_deref().map(|text| {
        let wrong =
            || ContainerError::option("ready-after", text, "a duration is such as 30s or 5m");
        let duration = parse_duration(text).ok_or_else(wrong)?;
        u64::try_from(duration.as_millis()).map_err(|_| wrong())
    });
    Ok(RunOptions {
        environment: environment(&arguments)?,
        labels: labels(&arguments.label)?,
        image: arguments.image,
        platform: arguments.platform,
        command: arguments.command,
        name: arguments.name,
        remove: arguments.rm,
        binds,
        anonymous_volumes,
        tmpfs,
        working_directory: arguments.workdir,
        user: arguments.user,
        entrypoint: arguments.entrypoint,
        read_only: arguments.read_only,
        hostname: arguments.hostname,
        limits,
        capabilities_added: arguments.cap_add,
        capabilities_dropped: arguments.cap_drop,
        privileged: arguments.privileged,
        network: match arguments.net {
            NetworkArgument::Host => Network::Host,
            NetworkArgument::None => Network::None,
        },
        interactive: arguments.interactive,
        terminal: arguments.tty,
        window: window_size().filter(|_| arguments.tty),
        runtime,
        stop_timeout_seconds: arguments.stop_timeout,
        stop_signal: stop_signal.transpose()?,
        ready_after_ms: ready_after.transpose()?,
    })
}

fn limits(arguments: &RunArguments) -> Result<Limits, ContainerError> {
    let number =
        |option: &'static str, text: &Option<String>, parse: fn(&str) -> Result<u64, String>| {
            text.as_deref()
                .map(|text| parse(text).map_err(|r| ContainerError::option(option, text, r)))
                .transpose()
        };
    let limits = Limits {
        // Zero means no limit, as in docker.
        memory_bytes: number("memory", &arguments.memory, size::parse_bytes)?.filter(|n| *n > 0),
        cpu_millis: number("cpus", &arguments.cpus, size::parse_cpus)?.filter(|n| *n > 0),
        pids: arguments
            .pids_limit
            .and_then(|limit| u64::try_from(limit).ok())
            .filter(|n| *n > 0),
    };
    let host_cpus = std::thread::available_parallelism().map_or(1, usize::from);
    resources::check(&limits, host_cpus)?;
    Ok(limits)
}

/// The variables of the files, then those of the command line.
fn environment(arguments: &RunArguments) -> Result<Vec<String>, ContainerError> {
    let lookup = |key: &str| std::env::var(key).ok();
    let mut variables = Vec::new();
    for path in &arguments.env_file {
        let failed = || ContainerError::file("read", path);
        let file = std::fs::File::open(path).map_err(failed())?;
        let mut content = String::new();
        file.take(MAX_ENV_FILE_BYTES)
            .read_to_string(&mut content)
            .map_err(failed())?;
        let text = path.display().to_string();
        let parsed = parse_file(&content, lookup);
        variables.extend(parsed.map_err(|r| ContainerError::option("env-file", &text, r))?);
    }
    for text in &arguments.env {
        let parsed = parse_variable(text, lookup);
        variables.extend(parsed.map_err(|r| ContainerError::option("env", text, r))?);
    }
    Ok(variables)
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, ContainerError> {
    let mut labels = BTreeMap::new();
    for text in texts {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(ContainerError::option(
                "label",
                text,
                "the label has no name",
            ));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArguments,
    }

    fn parsed(words: &str) -> Result<RunOptions, ContainerError> {
        let words = format!("run --runtime /bin/sh {words}");
        let line = Line::try_parse_from(words.split_whitespace()).unwrap();
        options(line.run)
    }

    #[test]
    fn what_follows_the_image_is_the_programs() {
        let options = parsed("-it --rm alpine ls -l --rm -e A=1").unwrap();
        assert!(options.interactive && options.terminal && options.remove);
        assert_eq!(options.image, "alpine");
        assert_eq!(options.command, ["ls", "-l", "--rm", "-e", "A=1"]);
        assert!(options.environment.is_empty());
    }

    #[test]
    fn values_are_brought_into_form() {
        let options = parsed(
            "-m 64m --cpus 0.5 --pids-limit -1 -v /a:/b:ro -v /c --tmpfs /run --net none \
             -l a=b --stop-signal QUIT --ready-after 2m -h box -w /srv -u 1:2 image",
        )
        .unwrap();
        assert_eq!(options.limits.memory_bytes, Some(64 << 20));
        assert_eq!(options.limits.cpu_millis, Some(500));
        assert_eq!(options.limits.pids, None);
        assert_eq!(
            (options.binds.len(), options.anonymous_volumes.len()),
            (1, 1)
        );
        assert_eq!(options.network, Network::None);
        assert_eq!(options.stop_signal, Some(3));
        assert_eq!(options.ready_after_ms, Some(120_000));
        assert_eq!(options.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(options.hostname.as_deref(), Some("box"));
    }

    #[test]
    fn wrong_values_are_named() {
        for (words, option) in [
            ("-m 1x i", "memory"),
            ("-m 1k i", "memory"),
            ("--cpus none i", "cpus"),
            ("-v data:/b i", "volume"),
            ("--tmpfs run i", "tmpfs"),
            ("-e =1 i", "env"),
            ("--stop-signal X i", "stop-signal"),
            ("-l =1 i", "label"),
            ("--ready-after soon i", "ready-after"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("--{option}")),
                "{words}: {error}"
            );
            assert_eq!(error.exit_code(), 125);
        }
    }
}
