//! Brings up `lo` of the current network namespace.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Sets `IFF_UP` on `lo` (netdevice(7)).
///
/// # Errors
/// What socket(2) and the two ioctls report.
pub fn bring_up() -> io::Result<()> {
    // SAFETY: integers only.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all-zero bytes are a valid ifreq: integers, and a union of integers and pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *slot = *byte as libc::c_char;
    }
    let pointer = std::ptr::from_mut(&mut request);
    // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of this ifreq, nothing beyond.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, pointer) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just written the flags member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    let pointer = std::ptr::from_mut(&mut request);
    // SAFETY: SIOCSIFFLAGS reads the name and the flags of this ifreq.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, pointer) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
