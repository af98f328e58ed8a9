//! Loading a compiled seccomp filter.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `SECCOMP_FILTER_FLAG_TSYNC`.
pub const FLAG_TSYNC: u64 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`.
pub const FLAG_LOG: u64 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
pub const FLAG_SPEC_ALLOW: u64 = 1 << 2;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: [`install`] gives back the descriptor of notifications.
pub const FLAG_NEW_LISTENER: u64 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_TSYNC_ESRCH`.
pub const FLAG_TSYNC_ESRCH: u64 = 1 << 4;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
pub const FLAG_WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// Bytes of one `struct sock_filter`.
const INSTRUCTION_SIZE: usize = 8;

/// Loads `program`, an array of `struct sock_filter` in native byte order, for this thread. It
/// needs `CAP_SYS_ADMIN` in the user namespace or `no_new_privs`. With [`FLAG_NEW_LISTENER`] the
/// result is the descriptor over which calls are reported; it is close-on-exec.
///
/// # Errors
/// `EINVAL` when the length is no whole number of instructions or beyond `u16`; else what
/// seccomp(2) reports.
pub fn install(program: &[u8], flags: u64) -> io::Result<Option<OwnedFd>> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    if !program.len().is_multiple_of(INSTRUCTION_SIZE) {
        return Err(invalid());
    }
    let length = u16::try_from(program.len() / INSTRUCTION_SIZE).map_err(|_| invalid())?;
    let mut instructions: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION_SIZE)
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let descriptor = libc::sock_fprog {
        len: length,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: the descriptor points at `length` instructions that outlive the call; the kernel
    // copies and checks them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(&descriptor),
        )
    };
    match result {
        0 => Ok(None),
        number if number > 0 && flags & FLAG_NEW_LISTENER != 0 => {
            let number = i32::try_from(number).map_err(io::Error::other)?;
            // SAFETY: a new descriptor, that nothing else owns.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }))
        }
        number if number > 0 => Err(io::Error::other("a thread could not be synchronised")),
        _ => Err(io::Error::last_os_error()),
    }
}
