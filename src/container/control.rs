//! What the command line and the monitor of a container say to each other: JSON lines over
//! a socket pair, the first one with file descriptors.

use super::error::ContainerError;
use super::log::Stream;
use super::options::{RunOptions, WindowSize};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// File descriptors one message carries at most: stdin, stdout and stderr.
pub const MAX_DESCRIPTORS: usize = 3;
/// Bytes of one message: a request holds the environment, which execve(2) limits to far less.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// What the monitor is started for; the client's pipes come with it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Request {
    /// The `--root`, absolute.
    pub root: PathBuf,
    /// What to run.
    pub options: RunOptions,
    /// The pipes that come with this message, in their order.
    pub pipes: Vec<Pipe>,
}

/// One of the client's pipes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pipe {
    /// The container's input is read from it.
    Stdin,
    /// The container's output goes to it.
    Stdout,
    /// The container's error output goes to it.
    Stderr,
}

/// What the client says once the request is out. Anything said before the container has
/// started, and the client's death, ends the preparation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The client was sent this signal.
    Signal(i32),
    /// The client's terminal has this size now.
    Resize(WindowSize),
    /// The client's input is at its end.
    StdinClosed,
    /// Nobody reads this output of the client any more.
    OutputClosed(Stream),
}

/// What the monitor says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The container has a directory and a name.
    Created {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// The program runs.
    Started,
    /// It never will, and nothing is left of it.
    Failed {
        /// Why, in words.
        message: String,
        /// The exit code for it.
        exit_code: u8,
        /// A remedy, where there is one.
        hint: Option<String>,
        /// Whether the client's own giving up was the cause.
        interrupted: bool,
    },
    /// The program has ended and all its output is out.
    Exited {
        /// Its exit code.
        code: u8,
    },
}

/// What waiting for a message gives.
#[derive(Debug)]
pub enum Received<T> {
    /// A message.
    Message(T),
    /// Nothing whole has arrived yet.
    Nothing,
    /// The other side is gone.
    Closed,
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    received: Vec<u8>,
}

impl Connection {
    /// Two connected ends.
    pub fn pair() -> Result<(Connection, UnixStream), ContainerError> {
        let failed = |source| ContainerError::Kernel {
            action: "create a socket pair",
            source,
        };
        let (own, other) = UnixStream::pair().map_err(failed)?;
        Ok((Connection::new(own), other))
    }

    /// A conversation over `socket`.
    pub fn new(socket: UnixStream) -> Connection {
        Connection {
            socket,
            received: Vec::new(),
        }
    }

    /// A second handle for sending, for another thread.
    pub fn sender(&self) -> Result<Connection, ContainerError> {
        let failed = |source| ContainerError::Kernel {
            action: "duplicate a socket",
            source,
        };
        Ok(Connection::new(self.socket.try_clone().map_err(failed)?))
    }

    /// Sends one message.
    pub fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
        line.push(b'\n');
        self.socket.write_all(&line)
    }

    /// Sends the descriptors, in front of a message.
    pub fn send_descriptors(&mut self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let marker = [IoSlice::new(b"\n")];
        rustix::net::sendmsg(&self.socket, &marker, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives what [`Connection::send_descriptors`] sent.
    pub fn receive_descriptors(&mut self) -> io::Result<Vec<OwnedFd>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut marker = [0u8];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut marker)];
            match rustix::net::recvmsg(&self.socket, &mut slices, &mut control, flags) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        Ok(descriptors)
    }

    /// Waits for the next message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            match self.receive_available()? {
                Received::Message(message) => return Ok(Some(message)),
                Received::Closed => return Ok(None),
                Received::Nothing => {}
            }
        }
    }

    /// The next message after the socket has become readable: reads once, and not at all
    /// where a whole message is there already.
    pub fn receive_available<T: DeserializeOwned>(&mut self) -> io::Result<Received<T>> {
        if let Some(message) = self.take_message()? {
            return Ok(Received::Message(message));
        }
        let mut buffer = [0u8; 4096];
        let count = loop {
            match self.socket.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break 0,
                result => break result?,
            }
        };
        if count == 0 {
            return Ok(Received::Closed);
        }
        self.received.extend_from_slice(&buffer[..count]);
        if self.received.len() > MAX_MESSAGE_BYTES {
            return Err(io::Error::other("a message is too long"));
        }
        Ok(self
            .take_message()?
            .map_or(Received::Nothing, Received::Message))
    }

    /// Whether something has been read that no message was taken from yet: waiting for the
    /// socket does not show it.
    pub fn has_unread(&self) -> bool {
        self.received.iter().any(|byte| *byte != b'\n')
    }

    /// A whole message that has arrived together with an earlier one.
    pub fn take_message<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else {
                return Ok(None);
            };
            let line: Vec<u8> = self.received.drain(..=end).collect();
            if line.len() > 1 {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(io::Error::other);
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive() {
        let (mut client, socket) = Connection::pair().unwrap();
        let mut monitor = Connection::new(socket);
        let (read, write) = rustix::pipe::pipe().unwrap();
        client.send_descriptors(&[write.as_fd()]).unwrap();
        client.send(&Command::Signal(2)).unwrap();
        client.send(&Command::StdinClosed).unwrap();
        let descriptors = monitor.receive_descriptors().unwrap();
        assert_eq!(descriptors.len(), 1);
        rustix::io::write(&descriptors[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut [0u8; 2]).unwrap(), 1);
        assert_eq!(
            monitor.receive::<Command>().unwrap(),
            Some(Command::Signal(2))
        );
        assert_eq!(
            monitor.receive::<Command>().unwrap(),
            Some(Command::StdinClosed)
        );
        drop(client);
        assert_eq!(monitor.receive::<Command>().unwrap(), None);
    }

    #[test]
    fn no_descriptors_is_a_message_too() {
        let (mut client, socket) = Connection::pair().unwrap();
        client.send_descriptors(&[]).unwrap();
        assert!(
            Connection::new(socket)
                .receive_descriptors()
                .unwrap()
                .is_empty()
        );
    }
}
