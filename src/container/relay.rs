//! Copies a container's output to its log and to the client, at the client's pace, without
//! ever waiting.

use super::log::{LogWriter, Stream};
use rustix::event::PollFlags;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::time::SystemTime;

/// Bytes read at a time: a pipe holds as many.
const BUFFER_BYTES: usize = 64 << 10;

/// One output of the container.
#[derive(Debug)]
pub struct Relay {
    stream: Stream,
    source: Option<OwnedFd>,
    client: Option<OwnedFd>,
    buffer: Vec<u8>,
    pending: std::ops::Range<usize>,
    /// Nothing that is not in the pipe already can come any more.
    ending: bool,
    is_terminal: bool,
    has_copied: bool,
}

impl Relay {
    /// Copies from `source`, a pipe or the master of a terminal, to `client`.
    pub fn new(
        stream: Stream,
        source: OwnedFd,
        client: Option<OwnedFd>,
        is_terminal: bool,
    ) -> Result<Relay, Errno> {
        set_nonblocking(&source)?;
        if let Some(client) = &client {
            set_nonblocking(client)?;
        }
        Ok(Relay {
            stream,
            source: Some(source),
            client,
            buffer: vec![0; BUFFER_BYTES],
            pending: 0..0,
            ending: false,
            is_terminal,
            has_copied: false,
        })
    }

    /// Which output it is.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Where to wait for what: for the client while something waits for it, else for the
    /// container and for the client's going.
    pub fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut interests = Vec::new();
        if let Some(client) = &self.client {
            let wanted = if self.pending.is_empty() {
                PollFlags::empty()
            } else {
                PollFlags::OUT
            };
            interests.push((client.as_fd(), wanted));
        }
        if let Some(source) = &self.source
            && self.pending.is_empty()
        {
            interests.push((source.as_fd(), PollFlags::IN));
        }
        interests
    }

    /// Copies one buffer, or what can be copied without waiting. While the container runs
    /// it may write faster than it can be copied, and others want attention too.
    pub fn advance(&mut self, log: &mut LogWriter) {
        loop {
            if !self.flush() {
                return;
            }
            let Some(source) = &self.source else { return };
            match rustix::io::read(source, &mut self.buffer[..]) {
                Ok(0) => self.source = None,
                Ok(count) => {
                    self.has_copied = true;
                    log.write(self.stream, &self.buffer[..count], SystemTime::now());
                    if self.client.is_some() {
                        self.pending = 0..count;
                    }
                    if !self.ending {
                        self.flush();
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // What a terminal's program wrote may still be on its way to the
                    // master; its end is told by EIO.
                    if self.ending && !self.is_terminal {
                        self.source = None;
                    }
                    return;
                }
                // EIO: nobody has the terminal open any more.
                Err(_) => self.source = None,
            }
        }
    }

    /// Gives the client what waits for it; false where the client is not ready.
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            let Some(client) = &self.client else {
                self.pending = 0..0;
                break;
            };
            match rustix::io::write(client, &self.buffer[self.pending.clone()]) {
                Ok(count) => self.pending.start += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                // The client has gone; the log goes on.
                Err(_) => self.client = None,
            }
        }
        true
    }

    /// The client is gone, as its end of the pipe says.
    pub fn drop_client(&mut self) {
        self.client = None;
        self.pending = 0..0;
    }

    /// Ends the copying: the container is told, by EPIPE, that nobody reads.
    pub fn close(&mut self) {
        self.source = None;
        self.drop_client();
    }

    /// The container has ended: what is in the pipe is all there is.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// Whether the container has written anything.
    pub fn has_copied(&self) -> bool {
        self.has_copied
    }

    /// Whether everything has been copied.
    pub fn is_done(&self) -> bool {
        self.source.is_none() && self.pending.is_empty()
    }
}

/// Input of a container's terminal: from the client's pipe to the terminal's master.
#[derive(Debug)]
pub struct TerminalInput {
    source: Option<OwnedFd>,
    master: OwnedFd,
    buffer: Vec<u8>,
    pending: std::ops::Range<usize>,
}

/// What a terminal takes for the end of the input (^D).
const END_OF_TRANSMISSION: u8 = 4;

impl TerminalInput {
    /// Copies from `source` to `master`.
    pub fn new(source: Option<OwnedFd>, master: OwnedFd) -> Result<TerminalInput, Errno> {
        if let Some(source) = &source {
            set_nonblocking(source)?;
        }
        Ok(TerminalInput {
            source,
            master,
            buffer: vec![0; BUFFER_BYTES],
            pending: 0..0,
        })
    }

    /// The terminal's master.
    pub fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Where to wait for what.
    pub fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        if !self.pending.is_empty() {
            return vec![(self.master.as_fd(), PollFlags::OUT)];
        }
        self.source
            .iter()
            .map(|source| (source.as_fd(), PollFlags::IN))
            .collect()
    }

    /// Copies what can be copied without waiting.
    pub fn advance(&mut self) {
        loop {
            while !self.pending.is_empty() {
                match rustix::io::write(&self.master, &self.buffer[self.pending.clone()]) {
                    Ok(count) => self.pending.start += count,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return,
                    Err(_) => {
                        self.pending = 0..0;
                        self.source = None;
                    }
                }
            }
            let Some(source) = &self.source else { return };
            match rustix::io::read(source, &mut self.buffer[..]) {
                Ok(0) => self.source = None,
                Ok(count) => self.pending = 0..count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.source = None,
            }
        }
    }

    /// Tells the program that the client's input, a file or pipe, is at its end.
    pub fn end(&mut self) {
        self.advance();
        self.source = None;
        if self.pending.is_empty() {
            self.buffer[0] = END_OF_TRANSMISSION;
            self.pending = 0..1;
        } else if self.pending.end < self.buffer.len() {
            self.buffer[self.pending.end] = END_OF_TRANSMISSION;
            self.pending.end += 1;
        }
        self.advance();
    }
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn log() -> (tempfile::TempDir, LogWriter) {
        let directory = tempfile::tempdir().unwrap();
        let log = LogWriter::create(&directory.path().join("log")).unwrap();
        (directory, log)
    }

    #[test]
    fn a_slow_client_stops_the_container_and_loses_nothing() {
        let (_directory, mut log) = log();
        let (source, container) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let (reader, client) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut relay = Relay::new(Stream::Stdout, source, Some(client), false).unwrap();
        let mut written = 0usize;
        for _ in 0..10 {
            while let Ok(count) = rustix::io::write(&container, &[7; 4096]) {
                written += count;
            }
            relay.advance(&mut log);
        }
        assert!(written <= 4 << 16, "the container is held back: {written}");
        drop(container);
        let mut received = 0;
        while !relay.is_done() {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = rustix::io::read(&reader, &mut buffer) {
                received += count;
            }
            relay.advance(&mut log);
        }
        while let Ok(count @ 1..) = rustix::io::read(&reader, &mut [0; 4096]) {
            received += count;
        }
        assert_eq!(received, written);
    }

    #[test]
    fn the_log_goes_on_without_the_client() {
        let (directory, mut log) = log();
        let (source, container) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (reader, client) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut relay = Relay::new(Stream::Stdout, source, Some(client), false).unwrap();
        drop(reader);
        rustix::io::write(&container, b"one\n").unwrap();
        relay.advance(&mut log);
        rustix::io::write(&container, b"two\n").unwrap();
        relay.advance(&mut log);
        assert!(!relay.is_done());
        relay.end();
        relay.advance(&mut log);
        assert!(
            relay.is_done(),
            "the container has ended, though its pipe is open"
        );
        let content = std::fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(content.contains("one") && content.contains("two"));
    }
}
