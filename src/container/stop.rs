//! Ending a container from outside: politely, then not.

use super::error::ContainerError;
use super::options::DEFAULT_STOP_TIMEOUT_SECONDS;
use super::process::{Process, timespec};
use super::store::{Container, Status};
use std::time::{Duration, Instant};

/// Longest wait for a process after SIGKILL: what a lazily mounted image cannot hold up is
/// gone within milliseconds, what waits for its content within two seconds.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a monitor to clear up: it may wait ten seconds for the mount service.
const MONITOR_LIMIT: Duration = Duration::from_secs(60);
/// How long a first process that could not see the stop signal is given to become able to: it
/// may be just setting its handlers up.
const UNHEARD_LIMIT: Duration = Duration::from_secs(1);
/// Pause between two looks at a lock, which has no wait with a limit.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Sends `signal` to the container's first process.
pub fn kill(container: &Container, signal: i32) -> Result<(), ContainerError> {
    running(container, "kill")?.signal(signal)
}

/// Sends the container's stop signal and, where that does not end it within `timeout`,
/// SIGKILL; waits until it has been cleared away. A container that has ended is left alone.
///
/// A program that neither handles nor ignores nor blocks the stop signal is waited for one second
/// at most: as the first process of its pid namespace it would never see it, and sleeping out
/// the timeout would change nothing. It gets the signal where it sets up a handler meanwhile.
pub fn stop(container: &Container, timeout: Option<Duration>) -> Result<(), ContainerError> {
    let Ok(process) = running(container, "stop") else {
        return match container.status()? {
            Status::Creating => running(container, "stop").map(drop),
            _ => Ok(()),
        };
    };
    let record = container.record()?;
    let configured = record
        .options
        .stop_timeout_seconds
        .unwrap_or(DEFAULT_STOP_TIMEOUT_SECONDS);
    let timeout = timeout.unwrap_or(Duration::from_secs(u64::from(configured)));
    if can_hear(
        container,
        &process,
        record.stop_signal,
        timeout.min(UNHEARD_LIMIT),
    )? {
        process.signal(record.stop_signal)?;
        if process.wait(timeout) {
            return wait_for_monitor(container);
        }
    }
    end(container, &process)
}

/// Whether the container's first process can see `signal`, now or within `limit`.
fn can_hear(
    container: &Container,
    process: &Process,
    signal: i32,
    limit: Duration,
) -> Result<bool, ContainerError> {
    let deadline = Instant::now() + limit;
    loop {
        if !container.state()?.is_deaf(process, signal) {
            return Ok(true);
        }
        // One that ends meanwhile needs no signal any more.
        if process.wait(LOOK_PAUSE) || Instant::now() >= deadline {
            return Ok(false);
        }
    }
}

/// Ends a running container at once and waits until it has been cleared away.
pub fn stop_at_once(container: &Container) -> Result<(), ContainerError> {
    end(container, &running(container, "kill")?)
}

fn end(container: &Container, process: &Process) -> Result<(), ContainerError> {
    process.kill()?;
    if !process.wait(KILL_LIMIT) {
        return Err(ContainerError::TimedOut {
            what: "ending the container with SIGKILL",
            seconds: KILL_LIMIT.as_secs(),
        });
    }
    wait_for_monitor(container)
}

/// The first process of a running container.
fn running(container: &Container, verb: &'static str) -> Result<Process, ContainerError> {
    let status = container.status()?;
    let process = match status {
        Status::Running => container.state()?.init.and_then(|init| init.open()),
        _ => None,
    };
    process.ok_or_else(|| ContainerError::WrongState {
        container: container.id.short().to_owned(),
        state: status.word().to_owned(),
        verb,
    })
}

/// Waits until the monitor has ended and with it the container's mounts.
pub fn wait_for_monitor(container: &Container) -> Result<(), ContainerError> {
    let watch = match container.watch() {
        Ok(watch) => watch,
        // Removed meanwhile.
        Err(_) if !container.directory.exists() => return Ok(()),
        Err(error) => return Err(error),
    };
    let deadline = Instant::now() + MONITOR_LIMIT;
    while !watch.has_ended() {
        if Instant::now() > deadline {
            return Err(ContainerError::TimedOut {
                what: "clearing up after the container",
                seconds: MONITOR_LIMIT.as_secs(),
            });
        }
        let _ = rustix::event::poll(&mut [], Some(&timespec(LOOK_PAUSE)));
    }
    Ok(())
}
