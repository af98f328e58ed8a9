//! `close_range(2)`.

use std::io;

/// Marks every descriptor from `first` upwards close-on-exec. Descriptors stay usable until the
/// next exec, so no owner in this process is surprised.
///
/// # Errors
/// What close_range(2) reports: `ENOSYS` before Linux 5.9, `EINVAL` before 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
    // SAFETY: integers only; with CLOEXEC nothing is closed now, so no descriptor owned
    // elsewhere becomes invalid. rustix and nix have no wrapper.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
