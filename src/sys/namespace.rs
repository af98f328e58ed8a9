//! Entering namespaces, and the names that live in one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Joins the namespaces of the `CLONE_NEW*` kinds in `kinds`: of the process when `source` is a
/// pidfd (Linux 5.8), or the one that `source` (a `/proc/PID/ns/*` file) is.
///
/// # Errors
/// What setns(2) reports.
pub fn join(source: BorrowedFd<'_>, kinds: u64) -> io::Result<()> {
    let kinds = i32::try_from(kinds).map_err(io::Error::other)?;
    // SAFETY: integers only. What becomes invalid for safe code is nothing: descriptors and
    // memory stay. (rustix offers the same with a type per kind, but not from a number.)
    let result = unsafe { libc::setns(source.as_raw_fd(), kinds) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Moves this process into new namespaces of `kinds`.
///
/// # Errors
/// What unshare(2) reports.
pub fn unshare(kinds: u64) -> io::Result<()> {
    let kinds = i32::try_from(kinds).map_err(io::Error::other)?;
    // SAFETY: only CLONE_NEW* bits are meant; none of them shares or unshares memory or
    // descriptors.
    let result = unsafe { libc::unshare(kinds) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets the NIS domain name of the current UTS namespace.
///
/// # Errors
/// What setdomainname(2) reports.
pub fn set_domain_name(name: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length are of the same slice.
    let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
