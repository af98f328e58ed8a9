//! Replacing the open file behind a descriptor that somebody else owns.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes the descriptor number of `target` refer to the open file of `source`, close-on-exec:
/// dup3(2). What `target` referred to is closed by the kernel in the same step, so no other
/// thread can take the number in between.
///
/// nix and rustix ask for `&mut OwnedFd` of the target. Here the owner is inside a library that
/// lends only a `BorrowedFd` and has to go on with another file under the same number: a FUSE
/// session that shook hands over a socket and then takes over a live /dev/fuse.
///
/// # Errors
/// As dup3(2): EBUSY in a race with open(2), EINVAL when both are the same descriptor.
pub fn replace(target: BorrowedFd<'_>, source: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open for the whole call, which the borrows guarantee, and the
    // call takes no pointers. The number of `target` stays open and stays its owner's.
    // No safe call exists: every safe wrapper needs the ownership of `target`.
    let result = unsafe { libc::dup3(source.as_raw_fd(), target.as_raw_fd(), libc::O_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_number_stays_and_the_file_changes() {
        let (first_read, first_write) = io::pipe().unwrap();
        let (mut second_read, second_write) = io::pipe().unwrap();
        let number = first_write.as_raw_fd();
        replace(first_write.as_fd(), second_write.as_fd()).unwrap();
        assert_eq!(first_write.as_raw_fd(), number);
        let mut writer = first_write;
        writer.write_all(b"moved").unwrap();
        drop((writer, second_write));
        let mut text = String::new();
        second_read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "moved");
        let mut rest = Vec::new();
        let mut first_read = first_read;
        first_read.read_to_end(&mut rest).unwrap();
        assert!(
            rest.is_empty(),
            "the old file was closed by the replacement"
        );
    }

    #[test]
    fn the_same_descriptor_is_refused() {
        let (read, _write) = io::pipe().unwrap();
        let error = replace(read.as_fd(), read.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
