//! `brisk logs`: what a container wrote.

use super::error::CliError;
use super::global::GlobalOptions;
use brisk_container::log::{LogReader, Output, Stream};
use brisk_container::process::timespec;
use brisk_container::{ContainerError, Store};
use std::io::{ErrorKind, Write};
use std::time::Duration;

/// Pause between two looks at a log that is followed: short for a reader, free for a host.
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);

/// Options of `brisk logs`.
#[derive(Clone, Debug, clap::Args)]
pub struct LogsArguments {
    /// Go on until the container has ended
    #[arg(short, long)]
    pub follow: bool,

    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES", value_parser = parse_tail)]
    pub tail: Option<Tail>,

    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,

    /// Name, id or beginning of an id
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

/// Value of `--tail`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tail {
    /// Everything.
    All,
    /// So many lines.
    Lines(usize),
}

fn parse_tail(text: &str) -> Result<Tail, String> {
    if text == "all" {
        return Ok(Tail::All);
    }
    text.parse()
        .map(Tail::Lines)
        .map_err(|_| "not a number of lines, nor \"all\"".to_owned())
}

/// Writes the container's stdout to ours and its stderr to ours.
pub fn run(global: &GlobalOptions, arguments: LogsArguments) -> Result<u8, CliError> {
    let store = Store::open(&global.root)?;
    let container = store.find(&arguments.container)?;
    let mut reader = LogReader::open(&container.log())?;
    if let Some(Tail::Lines(count)) = arguments.tail {
        for output in reader.tail(count)? {
            if !show(&output, arguments.timestamps)? {
                return Ok(0);
            }
        }
    }
    loop {
        // Looked at before reading: what it wrote before its end is read then.
        let ended = !arguments.follow || !container.is_monitored()?;
        while let Some(output) = reader.next_output()? {
            if !show(&output, arguments.timestamps)? {
                return Ok(0);
            }
        }
        if ended {
            return Ok(0);
        }
        // The log tells nobody that it has grown.
        let _ = rustix::event::poll(&mut [], Some(&timespec(FOLLOW_PAUSE)));
    }
}

/// Writes one piece; false where nobody reads any more.
fn show(output: &Output, timestamps: bool) -> Result<bool, ContainerError> {
    let mut bytes = Vec::with_capacity(output.bytes.len() + 40);
    if timestamps {
        bytes.extend_from_slice(output.time.as_bytes());
        bytes.push(b' ');
    }
    bytes.extend_from_slice(&output.bytes);
    let written = match output.stream {
        Stream::Stdout => {
            let mut stdout = std::io::stdout();
            stdout.write_all(&bytes).and_then(|()| stdout.flush())
        }
        Stream::Stderr => std::io::stderr().write_all(&bytes),
    };
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(ContainerError::Kernel {
            action: "write the log out",
            source,
        }),
    }
}
