//! `clone3(2)`: a fork into new namespaces and a cgroup, with a pidfd.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// `CLONE_*` bits of `<linux/sched.h>` that this crate's callers use.
pub mod flags {
    /// New mount namespace.
    pub const NEWNS: u64 = libc::CLONE_NEWNS as u64;
    /// New cgroup namespace.
    pub const NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// New UTS namespace.
    pub const NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
    /// New IPC namespace.
    pub const NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
    /// New user namespace.
    pub const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
    /// New PID namespace.
    pub const NEWPID: u64 = libc::CLONE_NEWPID as u64;
    /// New network namespace.
    pub const NEWNET: u64 = libc::CLONE_NEWNET as u64;
    /// New time namespace; only clone3 takes it.
    pub const NEWTIME: u64 = 0x80;
}

/// Which side of the fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The caller, with the new process.
    Parent(Child),
    /// The new process.
    Child,
}

/// The new process as its parent sees it.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's PID namespace.
    pub pid: i32,
    /// A handle that a recycled number cannot redirect.
    pub pidfd: OwnedFd,
}

/// `struct clone_args`, version 2 (`CLONE_ARGS_SIZE_VER2`: the one with `cgroup`).
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks with `namespaces` (of [`flags`]) new for the child and, where given, the child born
/// in the cgroup2 directory `cgroup`.
///
/// # Errors
/// `EBUSY` when this process has more than one thread: a lock held by another thread would stay
/// held in the child for ever. Else what clone3(2) reports.
pub fn fork(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let signal = u64::from(libc::SIGCHLD.unsigned_abs());
    clone(namespaces, signal, cgroup)
}

/// [`fork`] of a process whose parent is the caller's parent: a sibling.
///
/// # Errors
/// As [`fork`].
pub fn fork_sibling(namespaces: u64) -> io::Result<Forked> {
    // The signal to the parent is the caller's own.
    clone(namespaces | libc::CLONE_PARENT as u64, 0, None)
}

fn clone(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    // The link count of a directory in procfs is its subdirectories and two.
    if std::fs::metadata("/proc/self/task")?.nlink() > 3 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: i32 = -1;
    let mut arguments = CloneArguments {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal,
        ..CloneArguments::default()
    };
    if let Some(directory) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(directory.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the structure is the kernel's, of the size given, and outlives the call. No stack
    // is passed, so the child goes on in a copy of this one, as after fork(2); the process has
    // one thread (checked above), so nothing that the child needs is held by a thread that it
    // does not have. No safe wrapper of clone3 exists in nix or rustix.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_mut(&mut arguments),
            size_of::<CloneArguments>(),
        )
    };
    match pid {
        0 => Ok(Forked::Child),
        pid if pid > 0 => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            // SAFETY: CLONE_PIDFD stored a new descriptor there, that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent(Child { pid, pidfd }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process now: no destructors, no exit handlers. For a forked child, whose copies of
/// its parent's guards must not run twice.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) does not return and touches no memory of ours.
    unsafe { libc::_exit(status) }
}
