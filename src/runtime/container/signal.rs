//! Signals.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Context, Error, Result};
use crate::state::{Directory, State, Status, is_alive};

/// Rounds of killing everything: each finds what was forked during the one before.
const KILL_ROUNDS: u32 = 100;

/// A signal's number from its number or its name, with or without `SIG`, in any case.
///
/// # Errors
/// [`Error::Usage`].
pub fn parse_signal(text: &str) -> Result<i32> {
    let unknown = || Error::Usage(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset: i32 = if rest.is_empty() {
            0
        } else {
            rest.parse().map_err(|_| unknown())?
        };
        let number = nix::libc::SIGRTMIN() + offset;
        return if (0..=30).contains(&offset) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let signal =
        nix::sys::signal::Signal::from_str(&format!("SIG{name}")).map_err(|_| unknown())?;
    Ok(signal as i32)
}

/// A handle of the container's first process, proven to be that one.
///
/// # Errors
/// [`Error::NotRunning`].
pub fn handle(state: &State) -> Result<OwnedFd> {
    let pid = Pid::from_raw(state.pid).ok_or(Error::NotRunning)?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| Error::NotRunning)?;
    if is_alive(state.pid, state.start_time) {
        Ok(handle)
    } else {
        Err(Error::NotRunning)
    }
}

/// Sends `signal` to the first process, or to all.
///
/// # Errors
/// [`Error::NotRunning`].
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<()> {
    let directory = Directory::open(root, id)?;
    let state = directory.state()?;
    if all {
        return kill_all(&state, signal);
    }
    let status = directory.status(&state);
    if !status.can_kill() {
        return Err(Error::NotRunning);
    }
    send(&handle(&state)?, signal)?;
    if signal == nix::libc::SIGKILL && status == Status::Paused {
        // In a version 1 freezer even this one waits until the thaw.
        state.cgroup.thaw()?;
    }
    Ok(())
}

fn send(handle: &OwnedFd, signal: i32) -> Result<()> {
    match sys::signal::send(handle.as_fd(), signal) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Err(Error::NotRunning),
        other => other.doing(|| format!("send signal {signal}")),
    }
}

/// Sends `signal` to every process in the container's cgroups.
///
/// # Errors
/// [`Error::Os`].
pub fn kill_all(state: &State, signal: i32) -> Result<()> {
    if signal != nix::libc::SIGKILL {
        return signal_each(state, signal).map(drop);
    }
    for _ in 0..KILL_ROUNDS {
        let any = signal_each(state, signal)?;
        if state.cgroup.is_frozen() {
            state.cgroup.thaw()?;
        }
        if !any {
            return Ok(());
        }
        crate::cgroup::pause_briefly();
    }
    Ok(())
}

/// Whether there was any that had not ended.
fn signal_each(state: &State, signal: i32) -> Result<bool> {
    let mut any = false;
    for pid in state.cgroup.processes()? {
        match sys::signal::send_to_number(pid, signal) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            other => {
                other.doing(|| format!("send signal {signal} to {pid}"))?;
                any |= crate::state::start_time(pid)
                    .is_some_and(|start_time| is_alive(pid, start_time));
            }
        }
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigusr1", 10)] {
            assert_eq!(parse_signal(text).unwrap(), number);
        }
        assert_eq!(parse_signal("RTMIN+3").unwrap(), nix::libc::SIGRTMIN() + 3);
        assert_eq!(parse_signal("0").unwrap(), 0);
        for text in ["-1", "65", "", "SIG", "NOPE", "RTMIN+99"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }
}
