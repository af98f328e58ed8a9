//! The client's side of starting a container: a monitor, pipes, and the wait for the start.

use super::control::{Command, Connection, Event, Pipe, Received, Request};
use super::error::ContainerError;
use super::options::RunOptions;
use super::process::timespec;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Longest wait for the monitor to clear up after the user gave up; a second signal ends
/// it at once, and the monitor clears up all the same.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(30);

/// How the monitor is started: this program again, with these arguments.
#[derive(Clone, Debug)]
pub struct MonitorCommand {
    /// The program; `/proc/self/exe` also works when its file has been replaced.
    pub program: PathBuf,
    /// Its arguments, the hidden verb among them.
    pub arguments: Vec<OsString>,
}

/// The client's ends of the container's input and output.
#[derive(Debug, Default)]
pub struct ClientStreams {
    /// Where the client writes the container's input.
    pub stdin: Option<OwnedFd>,
    /// Where the client reads the container's output.
    pub stdout: Option<OwnedFd>,
    /// Where the client reads the container's error output.
    pub stderr: Option<OwnedFd>,
}

/// A container that runs.
#[derive(Debug)]
pub struct Launched {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The conversation with its monitor.
    pub connection: Connection,
    /// Its input and output.
    pub streams: ClientStreams,
    /// The client's signals, which are read from here and have no other effect.
    pub signals: SignalFd,
}

/// Signals the command line passes on to the container.
pub const FORWARDED: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Makes the forwarded signals, and the change of the window's size, readable.
pub fn read_signals() -> Result<SignalFd, ContainerError> {
    let failed = |errno: nix::errno::Errno| ContainerError::Kernel {
        action: "read signals",
        source: errno.into(),
    };
    let mut set: SigSet = FORWARDED.into_iter().collect();
    set.add(Signal::SIGWINCH);
    set.thread_block().map_err(failed)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)
}

/// Starts a container and waits until its program runs.
///
/// # Errors
/// Everything that keeps the program from running; nothing is left then.
pub fn launch(
    monitor: &MonitorCommand,
    root: &Path,
    options: RunOptions,
    detach: bool,
) -> Result<Launched, ContainerError> {
    let signals = read_signals()?;
    let root = std::path::absolute(root).map_err(ContainerError::file("resolve", root))?;
    // The monitor lives long: a pipe of our caller that it held open would never end.
    sys::close_range::close_on_exec_from(3).map_err(|source| ContainerError::Kernel {
        action: "keep descriptors",
        source,
    })?;
    let (mut connection, socket) = Connection::pair()?;
    let mut child = std::process::Command::new(&monitor.program)
        .args(&monitor.arguments)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(ContainerError::file("start", &monitor.program))?;
    let (streams, pipes) = if detach {
        Default::default()
    } else {
        make_pipes(&options)?
    };
    let (names, theirs): (Vec<Pipe>, Vec<OwnedFd>) = pipes.into_iter().unzip();
    let borrowed: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
    let request = Request {
        root,
        options,
        pipes: names,
    };
    let sent = connection
        .send_descriptors(&borrowed)
        .and_then(|()| connection.send(&request));
    drop(borrowed);
    drop(theirs);
    let started = match sent {
        Ok(()) => wait_for_start(&mut connection, &signals),
        Err(_) => Err(ContainerError::MonitorGone),
    };
    match started {
        Ok((id, name)) => Ok(Launched {
            id,
            name,
            connection,
            streams,
            signals,
        }),
        Err(error) => {
            drop(connection);
            if !error.is_interrupted() {
                // It has nothing left to do; its zombie is not ours to leave.
                let _ = child.wait();
            }
            Err(error)
        }
    }
}

type NamedPipes = Vec<(Pipe, OwnedFd)>;

/// One pipe for each stream; a terminal has no stderr of its own.
fn make_pipes(options: &RunOptions) -> Result<(ClientStreams, NamedPipes), ContainerError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(ContainerError::kernel("create a pipe"));
    let mut streams = ClientStreams::default();
    let mut theirs = Vec::new();
    if options.interactive {
        let (read, write) = pipe()?;
        streams.stdin = Some(write);
        theirs.push((Pipe::Stdin, read));
    }
    let (read, write) = pipe()?;
    streams.stdout = Some(read);
    theirs.push((Pipe::Stdout, write));
    if !options.terminal {
        let (read, write) = pipe()?;
        streams.stderr = Some(read);
        theirs.push((Pipe::Stderr, write));
    }
    Ok((streams, theirs))
}

/// Waits for the start. The user's signals end the preparation.
fn wait_for_start(
    connection: &mut Connection,
    signals: &SignalFd,
) -> Result<(String, String), ContainerError> {
    let mut created = (String::new(), String::new());
    let mut given_up: Option<(i32, Instant)> = None;
    loop {
        let left = given_up.map(|(_, at)| GIVE_UP_LIMIT.saturating_sub(at.elapsed()));
        let limit = left.map(timespec);
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&*connection, PollFlags::IN),
        ];
        match poll(&mut fds, limit.as_ref()) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(ContainerError::kernel("wait for the monitor")(errno)),
            Ok(_) => {}
        }
        let (signalled, spoke) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if let (Some((signal, _)), false, false) = (given_up, signalled, spoke) {
            return Err(ContainerError::Interrupted { signal });
        }
        if signalled && let Some(signal) = ending_signal(signals) {
            if given_up.is_some() {
                return Err(ContainerError::Interrupted { signal });
            }
            given_up = Some((signal, Instant::now()));
            // A monitor that has gone is noticed below.
            let _ = connection.send(&Command::Signal(signal));
        }
        if spoke && read_events(connection, &mut created, given_up.map(|(signal, _)| signal))? {
            return Ok(created);
        }
    }
}

/// Reads what the monitor says; true once the program runs.
fn read_events(
    connection: &mut Connection,
    created: &mut (String, String),
    given_up: Option<i32>,
) -> Result<bool, ContainerError> {
    let gone = || match given_up {
        Some(signal) => ContainerError::Interrupted { signal },
        None => ContainerError::MonitorGone,
    };
    let mut received = connection
        .receive_available::<Event>()
        .map_err(|_| gone())?;
    loop {
        match received {
            Received::Message(Event::Created { id, name }) => *created = (id, name),
            Received::Message(Event::Started) => return Ok(true),
            Received::Message(Event::Failed {
                interrupted: true, ..
            }) => {
                return Err(ContainerError::Interrupted {
                    signal: given_up.unwrap_or(2),
                });
            }
            Received::Message(Event::Failed {
                message,
                exit_code,
                hint,
                ..
            }) => {
                return Err(ContainerError::Reported {
                    message,
                    exit_code,
                    hint,
                });
            }
            Received::Message(Event::Exited { .. }) | Received::Closed => return Err(gone()),
            Received::Nothing => return Ok(false),
        }
        let next = connection.take_message().map_err(|_| gone())?;
        received = next.map_or(Received::Nothing, Received::Message);
    }
}

/// The first of the waiting signals that means to end the command.
fn ending_signal(signals: &SignalFd) -> Option<i32> {
    let mut first = None;
    while let Ok(Some(information)) = signals.read_signal() {
        let number = i32::try_from(information.ssi_signo).unwrap_or_default();
        if number != Signal::SIGWINCH as i32 {
            first = first.or(Some(number));
        }
    }
    first
}
