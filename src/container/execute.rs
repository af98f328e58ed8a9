//! A further process in a running container, for `brisk exec`.

use super::attach::{self, OutputCopy};
use super::cleanup::runtime_of;
use super::error::{ContainerError, signal_exit_code};
use super::id::ContainerId;
use super::launch::read_signals;
use super::log::Stream;
use super::monitor::ConsoleSocket;
use super::process::{Process, ProcessIdentity};
use super::runtime::ProcessStdio;
use super::spec::{ExecOptions, exec_process};
use super::store::replace;
use super::store::{Container, Store};
use super::terminal::{RawTerminal, set_window_size, window_size};
use brisk_durable::Durability;
use nix::sys::signalfd::SignalFd;
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// How the process is attached to the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attachment {
    /// Not at all: it goes on by itself.
    Detached,
    /// Its output comes here; with `interactive` our input goes there.
    Attached {
        /// Whether it gets our input.
        interactive: bool,
    },
}

/// Starts the process; waits for it unless it is detached, and gives its exit code. A
/// detached one has no terminal: nobody would be at its other end.
pub fn execute(
    store: &Store,
    container: &Container,
    options: &ExecOptions,
    attachment: Attachment,
) -> Result<u8, ContainerError> {
    let status = container.status()?;
    if !status.is_running() {
        return Err(ContainerError::WrongState {
            container: container.id.short().to_owned(),
            state: status.word().to_owned(),
            verb: "run a command in",
        });
    }
    let files = Files::create(container, options)?;
    let runtime = runtime_of(store, container, container.record()?.options.runtime);
    let run = |console: Option<&Path>, stdio| {
        runtime.exec(&container.id, &files.process, &files.pid, console, stdio)
    };
    let Attachment::Attached { interactive } = attachment else {
        run(None, ProcessStdio::null())?;
        return Ok(0);
    };
    let signals = read_signals()?;
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own))
        .map_err(ContainerError::kernel("become a subreaper"))?;
    if options.terminal {
        let console = ConsoleSocket::listen(&files.directory)?;
        run(Some(&console.path()), ProcessStdio::null())?;
        let master = console.receive()?;
        let child = files.started()?;
        with_terminal(child, master, interactive, &signals)
    } else {
        let (stdout_source, stdout) = pipe()?;
        let (stderr_source, stderr) = pipe()?;
        let mut input = None;
        let mut stdin = Stdio::null();
        if interactive {
            let (read, write) = pipe()?;
            stdin = Stdio::from(read);
            input = Some(write);
        }
        run(
            None,
            ProcessStdio {
                stdin,
                stdout: Stdio::from(stdout),
                stderr: Stdio::from(stderr),
            },
        )?;
        let child = files.started()?;
        let copies = [
            OutputCopy::start(Stream::Stdout, stdout_source, || {}, || {})?,
            OutputCopy::start(Stream::Stderr, stderr_source, || {}, || {})?,
        ];
        if let Some(input) = input {
            attach::copy_input(input, || {});
        }
        let code = wait_for_exit(&child, &signals, None)?;
        for copy in copies {
            copy.join();
        }
        Ok(code)
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), ContainerError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(ContainerError::kernel("create a pipe"))
}

fn with_terminal(
    child: Child,
    master: OwnedFd,
    interactive: bool,
    signals: &SignalFd,
) -> Result<u8, ContainerError> {
    let raw = if interactive {
        RawTerminal::enter(rustix::stdio::stdin())?
    } else {
        None
    };
    if let Some(size) = window_size() {
        set_window_size(&master, size);
    }
    let duplicate = |fd: &OwnedFd| {
        rustix::io::fcntl_dupfd_cloexec(fd, 3)
            .map_err(ContainerError::kernel("duplicate the terminal"))
    };
    let output = OutputCopy::start(Stream::Stdout, duplicate(&master)?, || {}, || {})?;
    if interactive {
        let end = duplicate(&master)?;
        attach::copy_input(duplicate(&master)?, move || {
            // ^D: what a terminal takes for the end of the input.
            let _ = attach::write_all(end.as_fd(), &[4]);
        });
    }
    let code = wait_for_exit(&child, signals, Some(&master));
    output.join();
    drop(raw);
    code
}

/// The process, which is our child since we are its subreaper.
struct Child {
    pid: Pid,
    process: Option<Process>,
}

/// Passes on signals until the process has ended; gives its exit code.
fn wait_for_exit(
    child: &Child,
    signals: &SignalFd,
    terminal: Option<&OwnedFd>,
) -> Result<u8, ContainerError> {
    while let Some(process) = &child.process {
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(process, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(ContainerError::kernel("wait for the process")(errno)),
            Ok(_) => {}
        }
        if !fds[1].revents().is_empty() {
            break;
        }
        while let Ok(Some(information)) = signals.read_signal() {
            let number = i32::try_from(information.ssi_signo).unwrap_or_default();
            if number != Signal::WINCH.as_raw() {
                process.signal(number)?;
            } else if let (Some(master), Some(size)) = (terminal, window_size()) {
                set_window_size(master, size);
            }
        }
    }
    let status = waitpid(Some(child.pid), WaitOptions::empty())
        .map_err(ContainerError::kernel("wait for the process"))?;
    Ok(match status {
        Some((_, status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            (None, Some(signal)) => signal_exit_code(signal),
            (None, None) => u8::MAX,
        },
        None => u8::MAX,
    })
}

/// The files of one call, removed with it.
struct Files {
    directory: PathBuf,
    process: PathBuf,
    pid: PathBuf,
}

impl Files {
    fn create(container: &Container, options: &ExecOptions) -> Result<Files, ContainerError> {
        let config = container.bundle().join("config.json");
        let spec = Spec::load(&config).map_err(|error| ContainerError::Damaged {
            path: config.clone(),
            reason: error.to_string(),
        })?;
        let process = exec_process(&spec, &container.rootfs(), options)?;
        let name = format!("exec-{}", ContainerId::random()?.short());
        let directory = container.directory.join(name);
        std::fs::create_dir(&directory).map_err(ContainerError::file("create", &directory))?;
        let files = Files {
            process: directory.join("process.json"),
            pid: directory.join("pid"),
            directory,
        };
        let content = serde_json::to_vec(&process)
            .map_err(|error| ContainerError::file("encode", &files.process)(error.into()))?;
        replace(&files.process, &content, Durability::Process)?;
        Ok(files)
    }

    /// The process the runtime has started. One that has ended already is still a zombie.
    fn started(&self) -> Result<Child, ContainerError> {
        let text =
            std::fs::read_to_string(&self.pid).map_err(ContainerError::file("read", &self.pid))?;
        let number: Option<i32> = text.trim().parse().ok();
        let pid = number
            .and_then(Pid::from_raw)
            .ok_or_else(|| ContainerError::Damaged {
                path: self.pid.clone(),
                reason: format!("{text:?} is no process"),
            })?;
        let process = number
            .and_then(ProcessIdentity::of)
            .and_then(|identity| identity.open());
        Ok(Child { pid, process })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // They go with the container otherwise.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
