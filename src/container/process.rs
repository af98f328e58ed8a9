//! Processes that are known by more than a number, which the kernel uses again.

use super::error::ContainerError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// A process as it is written into a file: number, start and boot tell it from every other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProcessIdentity {
    /// The number in the host's pid namespace.
    pub pid: i32,
    /// Clock ticks between the boot and its start (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
    /// The boot it belongs to (/proc/sys/kernel/random/boot_id).
    pub boot: String,
}

impl ProcessIdentity {
    /// The process that has this number now; none where there is none.
    pub fn of(pid: i32) -> Option<ProcessIdentity> {
        Some(ProcessIdentity {
            pid,
            start_ticks: start_ticks(pid)?,
            boot: boot_id()?,
        })
    }

    /// This very process.
    pub fn own() -> Option<ProcessIdentity> {
        ProcessIdentity::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Opens the process; none where it has ended (a zombie counts as ended).
    pub fn open(&self) -> Option<Process> {
        if boot_id()? != self.boot {
            return None;
        }
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Read after the opening: the number cannot change hands any more.
        if start_ticks(self.pid)? != self.start_ticks {
            return None;
        }
        let process = Process { fd, pid: self.pid };
        (!process.wait(Duration::ZERO)).then_some(process)
    }
}

/// A program's file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Executable {
    device: u64,
    inode: u64,
}

/// A living process, or one that has just ended.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
    pid: i32,
}

impl Process {
    /// Sends a signal; a process that has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<(), ContainerError> {
        match sys::signal::send(self.fd.as_fd(), signal) {
            Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
                Err(ContainerError::Kernel {
                    action: "send a signal",
                    source: error,
                })
            }
            _ => Ok(()),
        }
    }

    /// Ends the process with SIGKILL; one that has ended is no error.
    pub fn kill(&self) -> Result<(), ContainerError> {
        self.signal(Signal::KILL.as_raw())
    }

    /// Which program the process executes now; none where it has ended.
    pub fn executable(&self) -> Option<Executable> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(format!("/proc/{}/exe", self.pid)).ok()?;
        Some(Executable {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Waits until the process has ended, at most this long; tells whether it has.
    pub fn wait(&self, limit: Duration) -> bool {
        wait_readable(&self.fd, limit)
    }

    /// Whether the kernel would drop `signal` for this process where it is the first of a
    /// pid namespace: it neither handles, ignores nor blocks it, and the default action of
    /// a signal from within does not apply to such a process (pid_namespaces(7)).
    pub fn is_deaf_to(&self, signal: i32) -> bool {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.pid)) else {
            return false;
        };
        let bit = |field: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(field))
                .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                .is_some_and(|mask| {
                    u32::try_from(signal - 1).is_ok_and(|shift| mask >> (shift & 63) & 1 == 1)
                })
        };
        !["SigCgt:", "SigIgn:", "SigBlk:"].into_iter().any(bit)
    }
}

impl AsFd for Process {
    /// Readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until `fd` is readable or hung up, at most this long; tells whether it is.
pub fn wait_readable(fd: &OwnedFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = timespec(left);
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// A duration as the kernel takes it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything: what follows the last one is safe.
    // Field 22 is the 20th after it.
    stat[stat.rfind(')')? + 1..]
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

fn boot_id() -> Option<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_lives_and_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let identity = ProcessIdentity::of(pid).unwrap();
        let process = identity.open().unwrap();
        assert!(process.is_deaf_to(15));
        process.kill().unwrap();
        assert!(process.wait(Duration::from_secs(10)));
        assert!(identity.open().is_none(), "a zombie has ended");
        child.wait().unwrap();
        assert!(identity.open().is_none());
        process.kill().unwrap();
    }

    #[test]
    fn another_start_or_boot_is_another_process() {
        let own = ProcessIdentity::own().unwrap();
        assert!(own.open().is_some());
        let later = ProcessIdentity {
            start_ticks: own.start_ticks + 1,
            ..own.clone()
        };
        assert!(later.open().is_none());
        assert!(
            ProcessIdentity {
                boot: "other".to_owned(),
                ..own
            }
            .open()
            .is_none()
        );
    }
}
