//! Loading a compiled seccomp filter.

use std::io;

/// `SECCOMP_FILTER_FLAG_TSYNC`.
pub const FLAG_TSYNC: u64 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`.
pub const FLAG_LOG: u64 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
pub const FLAG_SPEC_ALLOW: u64 = 1 << 2;

/// Bytes of one `struct sock_filter`.
const INSTRUCTION_SIZE: usize = 8;

/// Loads `program`, an array of `struct sock_filter` in native byte order, for this thread. It
/// needs `CAP_SYS_ADMIN` in the user namespace or `no_new_privs`.
///
/// # Errors
/// `EINVAL` when the length is no whole number of instructions or beyond `u16`; else what
/// seccomp(2) reports.
pub fn install(program: &[u8], flags: u64) -> io::Result<()> {
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
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
