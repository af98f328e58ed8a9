//! What parent and child tell each other before the program runs: single messages over a
//! socketpair.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use crate::error::{Context, Error, Result};

/// One end.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// A message.
#[derive(Debug, Eq, PartialEq)]
pub enum Message {
    /// Parent to child: go on.
    Go,
    /// Child to parent: the mounts are made, run the hooks of the host.
    Mounted,
    /// Process in between to parent: the child, by its number.
    Born(i32),
    /// Child to parent: nothing is left but to execute the program.
    Ready,
    /// Child to parent: what failed.
    Failed(String),
}

/// Bytes of the longest message.
const MESSAGE_LIMIT: usize = 8192;

impl Channel {
    /// Two ends.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn pair() -> Result<(Self, Self)> {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .doing(|| "make a socketpair")?;
        Ok((Self { socket: one }, Self { socket: other }))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`Error::Os`] when the other end is gone.
    pub fn send(&self, message: &Message) -> Result<()> {
        let bytes = match message {
            Message::Go => b"G".to_vec(),
            Message::Mounted => b"M".to_vec(),
            Message::Ready => b"R".to_vec(),
            Message::Born(pid) => [&b"B"[..], &pid.to_ne_bytes()].concat(),
            Message::Failed(text) => [b"F", text.as_bytes()].concat(),
        };
        let length = bytes.len().min(MESSAGE_LIMIT);
        rustix::net::send(&self.socket, &bytes[..length], SendFlags::NOSIGNAL)
            .doing(|| "send to the other side of the fork")?;
        Ok(())
    }

    /// The next message, or `None` when the other end is gone.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut buffer = vec![0; MESSAGE_LIMIT];
        let (length, _) = loop {
            match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                // The other end died with something of ours unread.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => break other.doing(|| "read from the other side of the fork")?,
            }
        };
        Ok(match buffer[..length] {
            [] => None,
            [b'G'] => Some(Message::Go),
            [b'M'] => Some(Message::Mounted),
            [b'R'] => Some(Message::Ready),
            [b'B', one, two, three, four] => {
                Some(Message::Born(i32::from_ne_bytes([one, two, three, four])))
            }
            [b'F', ref text @ ..] => Some(Message::Failed(String::from_utf8_lossy(text).into())),
            _ => return Err(Error::Init("unknown message".to_owned())),
        })
    }

    /// Waits for a message of whatever kind by read(2) alone.
    ///
    /// # Errors
    /// [`Error::Init`] when the other end is gone.
    pub fn hear(&self) -> Result<()> {
        loop {
            match rustix::io::read(&self.socket, &mut [0; 1][..]) {
                Ok(1) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                _ => return Err(Error::Init("the runtime ended meanwhile".to_owned())),
            }
        }
    }

    /// Waits for one certain message.
    ///
    /// # Errors
    /// [`Error::Init`] with what failed at the other end, or that it is gone.
    pub fn expect(&self, wanted: &Message) -> Result<()> {
        match self.receive()? {
            Some(message) if message == *wanted => Ok(()),
            Some(Message::Failed(text)) => Err(Error::Init(text)),
            Some(_) => Err(Error::Init("message out of turn".to_owned())),
            None => Err(Error::Init(
                "the process ended before its program ran".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (one, other) = Channel::pair().unwrap();
        one.send(&Message::Mounted).unwrap();
        one.send(&Message::Failed("why".to_owned())).unwrap();
        drop(one);
        assert_eq!(other.receive().unwrap(), Some(Message::Mounted));
        assert_eq!(
            other.receive().unwrap(),
            Some(Message::Failed("why".to_owned()))
        );
        assert_eq!(other.receive().unwrap(), None);
    }
}
