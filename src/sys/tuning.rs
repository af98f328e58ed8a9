//! Small settings of the calling process without a wrapper elsewhere.

use std::io;

/// Sets the execution domain, personality(2).
///
/// # Errors
/// What personality(2) reports.
pub fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: an integer; the domains that the runtime spec allows change uname(2) only.
    let result = unsafe { libc::personality(persona as libc::c_ulong) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets this process's I/O priority: `class` 1 real-time, 2 best effort, 3 idle; `level` 0..=7.
///
/// # Errors
/// What ioprio_set(2) reports.
pub fn set_io_priority(class: u8, level: u8) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = (libc::c_long::from(class) << CLASS_SHIFT) | libc::c_long::from(level);
    // SAFETY: integers only.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
