//! Whether the task behind a request is being killed, from /proc.
//!
//! The end of a pid namespace kills everything in it, but only once its first process has really
//! ended. That one may itself wait, unkillably, for something that our caller holds: the kernel
//! reads a file into a pipe with the pipe locked, so a program that waits for content keeps
//! whoever else writes to that pipe. A caller whose namespace is about to end is therefore as good
//! as killed.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ancestors that are looked at for the first process of a namespace.
const MAX_ANCESTORS: usize = 64;

/// What is known of a request's caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// It lives, and no SIGKILL is on its way.
    Alive,
    /// It will die as soon as the kernel lets it: SIGKILL is pending for it.
    Killed,
    /// There is no such task any more.
    Gone,
    /// /proc could not be read.
    Unknown,
}

/// Whether there is a task `tid` in this process's pid namespace: much cheaper than [`look_at`].
pub(crate) fn exists(tid: u32) -> bool {
    // Signal 0 only checks (kill(2)); EPERM means that there is one.
    i32::try_from(tid).is_ok_and(|tid| kill(Pid::from_raw(tid), None) != Err(Errno::ESRCH))
}

/// Looks at thread `tid` of this process's pid namespace.
///
/// Requests carry the caller's thread id as seen from the pid namespace of the process that
/// mounted, so the server must run in that one. Callers outside it have the id 0.
pub(crate) fn look_at(tid: u32) -> Caller {
    match status_of(tid) {
        Ok(status) => match read_status(&status) {
            Caller::Alive if ends_with_its_namespace(&status, status_of) => Caller::Killed,
            found => found,
        },
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ESRCH) => Caller::Gone,
            _ => Caller::Unknown,
        },
    }
}

fn status_of(tid: u32) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{tid}/status"))
}

/// Whether SIGKILL is pending for the first process of a pid namespace below this process's own
/// that the task is in. It is an ancestor of all that were not put there from outside.
fn ends_with_its_namespace(status: &[u8], status_of: impl Fn(u32) -> io::Result<Vec<u8>>) -> bool {
    let mut place = Place::read(status);
    for _ in 0..MAX_ANCESTORS {
        let Some(parent) = place.filter(|p| p.is_below).map(|p| p.parent) else {
            return false;
        };
        let Ok(status) = status_of(parent) else {
            return false;
        };
        place = Place::read(&status);
        let is_first = place.is_some_and(|p| p.is_below && p.is_first);
        if is_first && read_status(&status) == Caller::Killed {
            return true;
        }
    }
    false
}

/// Where a task is among pid namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    parent: u32,
    /// It is in a namespace below the one that /proc shows.
    is_below: bool,
    /// It is the first process of its namespace.
    is_first: bool,
}

impl Place {
    /// From a task's status: `PPid`, and `NSpid` with its numbers from the outermost namespace
    /// that can be seen to its own.
    fn read(status: &[u8]) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = status.split(|&byte| byte == b'\n');
            let line = lines.find(|line| line.starts_with(name.as_bytes()))?;
            std::str::from_utf8(&line[name.len()..]).ok()
        };
        let numbers: Vec<&str> = field("NSpid:")?.split_whitespace().collect();
        Some(Self {
            parent: field("PPid:")?.trim().parse().ok()?,
            is_below: numbers.len() > 1,
            is_first: numbers.last() == Some(&"1"),
        })
    }
}

/// Reads /proc/<tid>/status (proc_pid_status(5)). `SigPnd` holds the signals pending for the
/// thread, `ShdPnd` those for its process, as hexadecimal masks with bit n-1 for signal n. A
/// process that ends for any reason (another fatal signal, exit_group in another thread, the end
/// of its pid namespace) has SIGKILL in the former.
fn read_status(status: &[u8]) -> Caller {
    let mut known = false;
    for line in status.split(|&byte| byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name {
            "State" if value.starts_with(['Z', 'X']) => return Caller::Gone,
            "SigPnd" | "ShdPnd" => {
                let Ok(mask) = u64::from_str_radix(value, 16) else {
                    return Caller::Unknown;
                };
                if mask & (1 << (Signal::SIGKILL as u32 - 1)) != 0 {
                    return Caller::Killed;
                }
                known = true;
            }
            _ => {}
        }
    }
    if known {
        Caller::Alive
    } else {
        Caller::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, own: u64, shared: u64) -> Vec<u8> {
        format!(
            "Name:\tb\u{fffd}d\nState:\t{state}\nTgid:\t7\nSigQ:\t0/96187\nSigPnd:\t{own:016x}\n\
             ShdPnd:\t{shared:016x}\nSigBlk:\t{:016x}\n",
            u64::MAX
        )
        .into_bytes()
    }

    #[test]
    fn only_sigkill_counts() {
        assert_eq!(read_status(&status("D (disk sleep)", 0, 0)), Caller::Alive);
        // SIGTERM and SIGUSR1.
        assert_eq!(
            read_status(&status("D (disk sleep)", 1 << 14, 1 << 9)),
            Caller::Alive
        );
        assert_eq!(
            read_status(&status("D (disk sleep)", 1 << 8, 0)),
            Caller::Killed
        );
        assert_eq!(
            read_status(&status("D (disk sleep)", 0, 1 << 8 | 1)),
            Caller::Killed
        );
    }

    #[test]
    fn who_is_in_a_namespace_that_ends_is_killed() {
        let task = |parent: u32, numbers: &str, pending: u64| {
            let mut text = status("D (disk sleep)", pending, 0);
            text.extend(format!("PPid:\t{parent}\nNSpid:\t{numbers}\n").into_bytes());
            text
        };
        let ends = |pending: u64, numbers: &str| {
            let table = |tid: u32| match tid {
                30 => Ok(task(20, "30 2", 0)),
                20 => Ok(task(10, "20 1", pending)),
                10 => Ok(task(1, "10", 1 << 8)),
                _ => Err(io::ErrorKind::NotFound.into()),
            };
            ends_with_its_namespace(&task(30, numbers, 0), table)
        };
        assert!(ends(1 << 8, "40 3"));
        assert!(ends(1 << 8, "40 3 1"), "and in one below that");
        assert!(!ends(0, "40 3"), "what is outside does not count");
        assert!(!ends(1 << 8, "40"), "a task of our own namespace");
        assert!(!ends_with_its_namespace(b"", |_| Ok(Vec::new())));
    }

    #[test]
    fn zombies_are_gone() {
        assert_eq!(read_status(&status("Z (zombie)", 0, 0)), Caller::Gone);
    }

    #[test]
    fn nonsense_is_unknown() {
        assert_eq!(read_status(b""), Caller::Unknown);
        assert_eq!(read_status(b"SigPnd:\tyes\n"), Caller::Unknown);
        assert_eq!(
            read_status(b"Name:\t\xff\xfe\nState:\tR\n"),
            Caller::Unknown
        );
    }

    #[test]
    fn this_thread_is_alive_and_pid_max_is_gone() {
        let tid = nix::unistd::gettid().as_raw().try_into().unwrap();
        assert_eq!((look_at(tid), exists(tid)), (Caller::Alive, true));
        // Above the largest pid_max the kernel allows (2^22).
        assert_eq!((look_at(1 << 30), exists(1 << 30)), (Caller::Gone, false));
        assert!(!exists(u32::MAX));
    }
}
