//! Unix sockets below the root, with descriptors passed along.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Largest message: a record of 128 layers with digests is below 64 KiB.
const MESSAGE_LIMIT: usize = 256 * 1024;

/// A directory held open so that sockets in it can be named in few bytes: `sun_path` has 108
/// (unix(7)), and a root may lie deep.
pub struct SocketDirectory {
    directory: File,
}

impl SocketDirectory {
    /// Opens the directory that holds the sockets.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(SocketDirectory {
            directory: File::open(path)?,
        })
    }

    /// A short path of `name` in the directory; valid while `self` lives.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!(
            "/proc/self/fd/{}/{name}",
            self.directory.as_raw_fd()
        ))
    }
}

/// Listens on a fresh socket of that name, replacing what a dead process left.
///
/// The caller holds the lock that makes it the only one to do so.
pub fn listen(directory: &SocketDirectory, name: &str) -> io::Result<OwnedFd> {
    let path = directory.path(name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = packet_socket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    rustix::net::listen(&socket, 8)?;
    Ok(socket)
}

/// Connects to a listening socket of that name.
pub fn connect(directory: &SocketDirectory, name: &str) -> io::Result<OwnedFd> {
    let socket = packet_socket()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(directory.path(name))?)?;
    Ok(socket)
}

/// Accepts one connection.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?)
}

fn packet_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message, with a descriptor where there is one.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if bytes.len() > MESSAGE_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "message of {} bytes is above the limit of {MESSAGE_LIMIT}",
                bytes.len()
            ),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds;
    if let Some(fd) = fd {
        fds = [fd];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives one message; no bytes at all mean that the other side has closed.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_LIMIT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "message above the size limit",
        ));
    }
    bytes.truncate(message.bytes);
    let mut received = None;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            // Descriptors beyond the first are closed by being dropped.
            for fd in fds {
                received.get_or_insert(fd);
            }
        }
    }
    Ok((bytes, received))
}

/// The process at the other end, as the kernel recorded it at connect (unix(7), SO_PEERCRED).
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<rustix::process::Pid> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.pid)
}

/// A second descriptor of the same open file.
pub fn duplicate(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_descriptor_travels_with_its_message_below_a_deep_root() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let directory = SocketDirectory::open(&deep).unwrap();
        let listener = listen(&directory, "s.sock").unwrap();
        let client = connect(&directory, "s.sock").unwrap();
        let server = accept(listener.as_fd()).unwrap();

        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"held").unwrap();
        send(client.as_fd(), b"hello", Some(file.as_fd())).unwrap();
        let (bytes, fd) = receive(server.as_fd()).unwrap();
        assert_eq!(bytes, b"hello");
        let mut passed = File::from(fd.expect("a descriptor came along"));
        passed.rewind().unwrap();
        let mut text = String::new();
        passed.read_to_string(&mut text).unwrap();
        assert_eq!(text, "held");
        assert_eq!(peer(server.as_fd()).unwrap(), rustix::process::getpid());

        drop(client);
        assert!(receive(server.as_fd()).unwrap().0.is_empty());
    }

    #[test]
    fn a_message_above_the_limit_is_refused_by_the_sender() {
        let root = tempfile::tempdir().unwrap();
        let directory = SocketDirectory::open(root.path()).unwrap();
        let _listener = listen(&directory, "s.sock").unwrap();
        let client = connect(&directory, "s.sock").unwrap();
        let error = send(client.as_fd(), &vec![0; MESSAGE_LIMIT + 1], None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
