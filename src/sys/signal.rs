//! Sending signals by number, real-time ones included.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends `signal` to the process of `pidfd`.
///
/// # Errors
/// What pidfd_send_signal(2) reports: `ESRCH` when it has ended and was waited for.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: integers, and a null pointer that the call allows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            none,
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends `signal` to the process `pid`, which must be positive: the other numbers of kill(2) are
/// groups.
///
/// # Errors
/// `EINVAL` for a number that is not positive; else what kill(2) reports.
pub fn send_to_number(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: integers only.
    let result = unsafe { libc::kill(pid, signal) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives SIGPIPE its default action again, which Rust's start-up code takes away and an exec
/// would hand on.
pub fn restore_broken_pipe() {
    // SAFETY: SIG_DFL is no handler of ours, so nothing runs in signal context.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
