//! The command line in the foreground of a container: it copies, passes on signals, and
//! ends with the container's exit code.

use super::control::{Command, Connection, Event, Received};
use super::error::ContainerError;
use super::launch::Launched;
use super::log::Stream;
use super::terminal::{RawTerminal, window_size};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Bytes copied at a time: a pipe holds as many.
const BUFFER_BYTES: usize = 64 << 10;

/// Called once, when the program has written something, before that is passed on.
pub type OnFirstOutput = Box<dyn FnOnce() + Send>;

/// Stays with a container until it has ended; gives its exit code.
pub fn attach(
    launched: Launched,
    terminal: bool,
    on_first_output: Option<OnFirstOutput>,
) -> Result<u8, ContainerError> {
    let Launched {
        mut connection,
        streams,
        signals,
        ..
    } = launched;
    let raw = if terminal && streams.stdin.is_some() {
        RawTerminal::enter(rustix::stdio::stdin())?
    } else {
        None
    };
    let sender = Arc::new(Mutex::new(connection.sender()?));
    let first = Arc::new(Mutex::new(on_first_output));
    let mut copies = Vec::new();
    for (stream, source) in [
        (Stream::Stdout, streams.stdout),
        (Stream::Stderr, streams.stderr),
    ] {
        if let Some(source) = source {
            let sender = Arc::clone(&sender);
            let first = Arc::clone(&first);
            let wrote = move || {
                let call = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(call) = call {
                    call();
                }
            };
            copies.push(OutputCopy::start(stream, source, wrote, move || {
                tell(&sender, &Command::OutputClosed(stream));
            })?);
        }
    }
    if let Some(destination) = streams.stdin {
        let sender = Arc::clone(&sender);
        let at_end = move || tell(&sender, &Command::StdinClosed);
        copy_input(destination, at_end);
    }
    if terminal && let Some(size) = window_size() {
        // It may have changed since the request.
        tell(&sender, &Command::Resize(size));
    }
    let code = wait_for_exit(&mut connection, &signals, &sender);
    for copy in copies {
        copy.join();
    }
    drop(raw);
    code
}

/// Says something to the monitor; one that has gone is noticed by the reader.
fn tell(sender: &Mutex<Connection>, command: &Command) {
    let mut sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = sender.send(command);
}

fn wait_for_exit(
    connection: &mut Connection,
    signals: &SignalFd,
    sender: &Mutex<Connection>,
) -> Result<u8, ContainerError> {
    loop {
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&*connection, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(ContainerError::kernel("wait for the container")(errno)),
            Ok(_) => {}
        }
        let (signalled, spoke) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if signalled {
            for command in commands(signals) {
                tell(sender, &command);
            }
        }
        if spoke {
            match connection.receive_available::<Event>() {
                Ok(Received::Message(Event::Exited { code })) => return Ok(code),
                Ok(Received::Message(_) | Received::Nothing) => {}
                Ok(Received::Closed) | Err(_) => return Err(ContainerError::MonitorGone),
            }
        }
    }
}

/// What the signals that have arrived mean for the container.
fn commands(signals: &SignalFd) -> Vec<Command> {
    let mut commands = Vec::new();
    while let Ok(Some(information)) = signals.read_signal() {
        let number = i32::try_from(information.ssi_signo).unwrap_or_default();
        if number == Signal::SIGWINCH as i32 {
            commands.extend(window_size().map(Command::Resize));
        } else {
            commands.push(Command::Signal(number));
        }
    }
    commands
}

/// A thread that copies output to this process's own.
#[derive(Debug)]
pub struct OutputCopy {
    thread: JoinHandle<()>,
    finish: OwnedFd,
}

impl OutputCopy {
    /// Copies `source` until its end. `wrote` is called at its first bytes. `closed` is called when nobody reads our own output
    /// any more; the rest is thrown away then.
    pub fn start(
        stream: Stream,
        source: OwnedFd,
        wrote: impl FnOnce() + Send + 'static,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<OutputCopy, ContainerError> {
        let (finished, finish) =
            pipe_with(PipeFlags::CLOEXEC).map_err(ContainerError::kernel("create a pipe"))?;
        let copy = move || copy_output(stream, &source, &finished, wrote, closed);
        let thread = spawn("output", copy)?;
        Ok(OutputCopy { thread, finish })
    }

    /// Waits until everything is out that was written, however slow our reader is.
    pub fn join(self) {
        drop(self.finish);
        // A panic of the copying thread has been printed.
        let _ = self.thread.join();
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ContainerError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|source| ContainerError::Kernel {
            action: "start a thread",
            source,
        })
}

/// Copies until the end of `source`, or, once `finished` is closed, until it is empty:
/// background processes of a program that has ended may hold it open for ever.
fn copy_output(
    stream: Stream,
    source: &OwnedFd,
    finished: &OwnedFd,
    wrote: impl FnOnce(),
    closed: impl FnOnce(),
) {
    let (mut wrote, mut closed) = (Some(wrote), Some(closed));
    let mut buffer = vec![0u8; BUFFER_BYTES];
    loop {
        let mut fds = [
            PollFd::new(source, PollFlags::IN),
            PollFd::new(finished, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        if fds[0].revents().is_empty() {
            return;
        }
        let count = match rustix::io::read(source, &mut buffer[..]) {
            Err(Errno::INTR) => continue,
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        if let Some(wrote) = wrote.take() {
            wrote();
        }
        if closed.is_some()
            && write_all(own_output(stream), &buffer[..count]).is_err()
            && let Some(closed) = closed.take()
        {
            closed();
        }
    }
}

fn own_output(stream: Stream) -> BorrowedFd<'static> {
    match stream {
        Stream::Stdout => rustix::stdio::stdout(),
        Stream::Stderr => rustix::stdio::stderr(),
    }
}

/// Writes everything, also where the descriptor is one that does not wait (a terminal that
/// another program has set so).
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Copies this process's input to `destination` in a thread that nobody waits for: it ends
/// with the process. `at_end` is called at the end of the input.
pub fn copy_input(destination: OwnedFd, at_end: impl FnOnce() + Send + 'static) {
    let copy = move || {
        let mut buffer = vec![0u8; BUFFER_BYTES];
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut fds = [PollFd::from_borrowed_fd(
                        rustix::stdio::stdin(),
                        PollFlags::IN,
                    )];
                    if poll(&mut fds, None).is_err_and(|errno| errno != Errno::INTR) {
                        break;
                    }
                }
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    if write_all(destination.as_fd(), &buffer[..count]).is_err() {
                        return;
                    }
                }
            }
        }
        drop(destination);
        at_end();
    };
    if let Err(error) = spawn("input", copy) {
        tracing::warn!("no input: {error}");
    }
}
