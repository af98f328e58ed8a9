//! Whether the task behind a request is being killed, from /proc.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
    match fs::read(format!("/proc/{tid}/status")) {
        Ok(status) => read_status(&status),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ESRCH) => Caller::Gone,
            _ => Caller::Unknown,
        },
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
