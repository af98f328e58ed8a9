//! Session keyrings, `keyctl(2)`.

use std::ffi::CStr;
use std::io;

/// Gives this process a new session keyring called `name`, so that it does not see its parent's.
///
/// # Errors
/// What keyctl(2) reports; `ENOSYS` where the kernel has no keyrings.
pub fn join_session(name: &CStr) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: the name is a terminated string that outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
