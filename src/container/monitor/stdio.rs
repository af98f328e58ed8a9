//! Input and output of a container: pipes, or a terminal received from the runtime.

use crate::control::{Connection, Pipe};
use crate::error::ContainerError;
use crate::log::{LogWriter, Stream};
use crate::options::RunOptions;
use crate::process::wait_readable;
use crate::relay::{Relay, TerminalInput};
use crate::runtime::ProcessStdio;
use crate::store::Container;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Longest wait for the terminal after the runtime has returned: it has sent it by then.
const CONSOLE_LIMIT: Duration = Duration::from_secs(5);
/// Name of the socket in the container's directory.
const CONSOLE_SOCKET: &str = "console";

/// What the monitor copies while the container runs.
#[derive(Debug)]
pub struct Outputs {
    /// The log.
    pub log: LogWriter,
    /// stdout and stderr, or the terminal's one output.
    pub relays: Vec<Relay>,
    /// Input of the terminal.
    pub input: Option<TerminalInput>,
    /// The open end of an input that nobody writes to (`-d -i`).
    pub held_input: Option<OwnedFd>,
}

/// The client's pipes by their names.
#[derive(Debug, Default)]
pub struct ClientPipes {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl ClientPipes {
    /// Pairs the descriptors of a request with what it says they are.
    pub fn new(names: &[Pipe], descriptors: Vec<OwnedFd>) -> ClientPipes {
        let mut pipes = ClientPipes::default();
        for (name, descriptor) in names.iter().zip(descriptors) {
            match name {
                Pipe::Stdin => pipes.stdin = Some(descriptor),
                Pipe::Stdout => pipes.stdout = Some(descriptor),
                Pipe::Stderr => pipes.stderr = Some(descriptor),
            }
        }
        pipes
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), ContainerError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(ContainerError::kernel("create a pipe"))
}

/// Pipes for a container without a terminal, and what copies from them.
pub fn with_pipes(
    container: &Container,
    options: &RunOptions,
    client: ClientPipes,
) -> Result<(ProcessStdio, Outputs), ContainerError> {
    let (stdout_source, stdout) = pipe()?;
    let (stderr_source, stderr) = pipe()?;
    let mut held_input = None;
    let stdin = match client.stdin {
        Some(stdin) if options.interactive => Stdio::from(stdin),
        None if options.interactive => {
            let (stdin, open_end) = pipe()?;
            held_input = Some(open_end);
            Stdio::from(stdin)
        }
        _ => Stdio::null(),
    };
    let relay = |stream, source, client| {
        Relay::new(stream, source, client, false).map_err(ContainerError::kernel("use a pipe"))
    };
    let relays = vec![
        relay(Stream::Stdout, stdout_source, client.stdout)?,
        relay(Stream::Stderr, stderr_source, client.stderr)?,
    ];
    let log = LogWriter::create(&container.log())?;
    let stdio = ProcessStdio {
        stdin,
        stdout: Stdio::from(stdout),
        stderr: Stdio::from(stderr),
    };
    Ok((
        stdio,
        Outputs {
            log,
            relays,
            input: None,
            held_input,
        },
    ))
}

/// The socket on which the runtime hands over a terminal.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    directory: OwnedFd,
    file: PathBuf,
}

impl ConsoleSocket {
    /// Listens in `directory`.
    pub fn listen(directory: &Path) -> Result<ConsoleSocket, ContainerError> {
        let failed = |errno: rustix::io::Errno| ContainerError::File {
            action: "open",
            path: directory.to_path_buf(),
            source: errno.into(),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(directory, flags, Mode::empty()).map_err(failed)?;
        let file = directory.join(CONSOLE_SOCKET);
        let through = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        let listener = UnixListener::bind(through.join(CONSOLE_SOCKET))
            .map_err(ContainerError::file("listen on", &file))?;
        Ok(ConsoleSocket {
            listener,
            directory: handle,
            file,
        })
    }

    /// A name of the socket for other processes. The socket's own path is longer than the
    /// 107 bytes an address has room for, so it leads through this process's descriptor.
    pub fn path(&self) -> PathBuf {
        let own = std::process::id();
        let descriptor = self.directory.as_raw_fd();
        PathBuf::from(format!("/proc/{own}/fd/{descriptor}/{CONSOLE_SOCKET}"))
    }

    /// Receives the terminal's master and removes the socket.
    pub fn receive(self) -> Result<OwnedFd, ContainerError> {
        let failed = |source| ContainerError::Kernel {
            action: "receive the terminal",
            source,
        };
        let listener = OwnedFd::from(self.listener.try_clone().map_err(failed)?);
        if !wait_readable(&listener, CONSOLE_LIMIT) {
            return Err(ContainerError::TimedOut {
                what: "receiving the terminal from the runtime",
                seconds: CONSOLE_LIMIT.as_secs(),
            });
        }
        let (socket, _) = self.listener.accept().map_err(failed)?;
        let received = Connection::new(socket)
            .receive_descriptors()
            .map_err(failed)?;
        received.into_iter().next().ok_or_else(|| {
            failed(std::io::Error::other(
                "the runtime sent a message without a terminal",
            ))
        })
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // It goes with the directory otherwise.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// What copies from and to the terminal whose master is `master`.
pub fn with_terminal(
    container: &Container,
    options: &RunOptions,
    client: ClientPipes,
    master: OwnedFd,
) -> Result<Outputs, ContainerError> {
    let failed = || ContainerError::kernel("use the terminal");
    if let Some(window) = options.window {
        crate::terminal::set_window_size(&master, window);
    }
    let source = rustix::io::fcntl_dupfd_cloexec(&master, 3).map_err(failed())?;
    let stdin = client.stdin.filter(|_| options.interactive);
    let input = TerminalInput::new(stdin, master).map_err(failed())?;
    let relay = Relay::new(Stream::Stdout, source, client.stdout, true).map_err(failed())?;
    let log = LogWriter::create(&container.log())?;
    Ok(Outputs {
        log,
        relays: vec![relay],
        input: Some(input),
        held_input: None,
    })
}
