//! The process that looks after one container, from its directory to its last byte.
//!
//! It is started by `brisk run` as `brisk monitor`, in a session of its own, with one end
//! of a socket pair as standard input. What the user is told while the container is being
//! prepared comes from here; what the container is afterwards is in its directory.

mod prepare;
mod readiness;
mod stdio;
mod supervise;

use super::cleanup::{self, Release};
use super::control::{Connection, Event, Request};
use super::error::ContainerError;
use super::image::ImageProvider;
use super::store::{Container, MonitorLock, Phase, Record, State, Store, unix_ms};
use brisk_durable::Durability;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use prepare::Prepared;
use readiness::Readiness;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use supervise::Ended;

pub use stdio::ConsoleSocket;

/// Runs the monitor to its end. Standard input is the conversation with the client.
///
/// # Errors
/// Only what happens before the client can be told, such as a standard input that is no
/// socket; everything else is told to the client and kept in the container's directory.
pub fn run(provider: &dyn ImageProvider) -> Result<(), ContainerError> {
    let signals = become_monitor()?;
    let (mut client, request, pipes) = receive_request()?;
    match prepare::prepare(request, pipes, &mut client, provider) {
        Ok(prepared) => watch_over(prepared, signals, client, provider),
        Err(error) => {
            let event = Event::Failed {
                message: error.to_string(),
                exit_code: error.exit_code(),
                hint: error.hint(),
                interrupted: error.is_interrupted(),
            };
            // A client that has gone needs no answer.
            let _ = client.send(&event);
            Ok(())
        }
    }
}

/// Leaves the session of the client and takes in the container's orphans.
fn become_monitor() -> Result<SignalFd, ContainerError> {
    let nix_failed = |errno: nix::errno::Errno| ContainerError::Kernel {
        action: "read signals",
        source: errno.into(),
    };
    SigSet::all().thread_block().map_err(nix_failed)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&SigSet::all(), flags).map_err(nix_failed)?;
    rustix::process::setsid().map_err(ContainerError::kernel("start a session"))?;
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own))
        .map_err(ContainerError::kernel("become a subreaper"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir("/").map_err(ContainerError::kernel("change directory"))?;
    Ok(signals)
}

fn receive_request() -> Result<(Connection, Request, Vec<OwnedFd>), ContainerError> {
    let failed = |source| ContainerError::Kernel {
        action: "receive the request",
        source,
    };
    let socket = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(failed)?;
    let mut client = Connection::new(UnixStream::from(socket));
    let null = open_null()?;
    rustix::stdio::dup2_stdin(&null).map_err(ContainerError::kernel("close stdin"))?;
    let pipes = client.receive_descriptors().map_err(failed)?;
    let request = client
        .receive::<Request>()
        .map_err(failed)?
        .ok_or(ContainerError::MonitorGone)?;
    Ok((client, request, pipes))
}

fn open_null() -> Result<OwnedFd, ContainerError> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(ContainerError::kernel("open /dev/null"))
}

/// From the start of the program to the end of everything.
fn watch_over(
    prepared: Prepared,
    signals: SignalFd,
    mut client: Connection,
    provider: &dyn ImageProvider,
) -> Result<(), ContainerError> {
    let Prepared {
        store,
        container,
        record,
        mut lock,
        state,
        init,
        outputs,
        runtime,
    } = prepared;
    // From now on words of ours have no reader but those who look into the directory.
    redirect_stderr(&container)?;
    let told = client.send(&Event::Started);
    let client = told.is_ok().then_some(client);
    let readiness = Readiness::new(&record.options, init.pid);
    let on_ready = || {
        if let Err(error) = provider.ready(&container.id) {
            tracing::warn!(container = container.id.short(), "{error}");
        }
    };
    // Told by a thread: who waits for the container's output does not wait for the service.
    let Ended { code, client } = std::thread::scope(|scope| {
        let watched = supervise::Watched {
            container: &container,
            state: &state,
            init,
            signals,
            client,
            readiness,
            on_ready: &mut || drop(scope.spawn(on_ready)),
        };
        supervise::supervise(watched, outputs, |code| {
            finish(&container, &record, &state, &mut lock, code)
        })
    })?;
    let failures = cleanup::take_down(&container, &runtime, provider, Release::Insist);
    for failure in &failures {
        tracing::warn!(container = container.id.short(), "{failure}");
    }
    if record.options.remove {
        store.remove(&container)?;
    }
    if let Some(mut client) = client {
        // A client that has gone needs no answer.
        let _ = client.send(&Event::Exited { code });
    }
    Ok(())
}

/// Writes the end of the program where everybody looks for it.
fn finish(
    container: &Container,
    record: &Record,
    state: &State,
    lock: &mut MonitorLock,
    code: u8,
) -> Result<(), ContainerError> {
    lock.leave_exit_code(code)?;
    let durability = if record.options.remove {
        Durability::Process
    } else {
        Durability::PowerFailure
    };
    let ended = State {
        phase: Phase::Exited,
        finished_unix_ms: Some(unix_ms()),
        exit_code: Some(code),
        ..state.clone()
    };
    container.write_state(&ended, durability)
}

/// Sends our own words to `monitor.log` in the container's directory.
fn redirect_stderr(container: &Container) -> Result<(), ContainerError> {
    let path = container.directory.join("monitor.log");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    let log = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
        .map_err(|errno| ContainerError::file("create", &path)(errno.into()))?;
    let null = open_null()?;
    rustix::stdio::dup2_stderr(&log)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .map_err(ContainerError::kernel("redirect stderr"))
}

/// The store of a request, whose root is absolute.
fn open_store(request: &Request) -> Result<Store, ContainerError> {
    Store::open(&request.root)
}
