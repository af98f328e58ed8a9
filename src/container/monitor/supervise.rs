//! While the program runs: output, input, signals, and its end.

use super::readiness::Readiness;
use super::stdio::Outputs;
use crate::control::{Command, Connection, Received};
use crate::error::{ContainerError, signal_exit_code};
use crate::process::{Process, ProcessIdentity, timespec};
use crate::store::{Container, State};
use crate::terminal::set_window_size;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Longest wait for the rest of a terminal's output after the program's end: its end is
/// told by the kernel, unless somebody on the host has opened the terminal too.
const TERMINAL_REST_LIMIT: Duration = Duration::from_secs(2);
/// Signals that end a program which does nothing about them, and that people and service
/// managers send to end one.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];
/// Signals passed on to the program when they are sent to the monitor itself.
const PASSED_ON: [Signal; 6] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
];

/// Who is watched, and who watches along.
pub struct Watched<'a> {
    /// The container.
    pub container: &'a Container,
    /// Its state when the program was started.
    pub state: &'a State,
    /// Its first process.
    pub init: ProcessIdentity,
    /// The monitor's own signals.
    pub signals: SignalFd,
    /// The client, where it is there.
    pub client: Option<Connection>,
    /// When the container is ready.
    pub readiness: Readiness,
    /// Called once, when it is.
    pub on_ready: &'a mut dyn FnMut(),
}

/// The program has ended and its output is out.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: u8,
    /// The client, where it is still there.
    pub client: Option<Connection>,
}

/// Watches until the program has ended and everything it wrote has been copied.
/// `finish` is called once, as soon as the exit code is known.
pub fn supervise(
    watched: Watched<'_>,
    outputs: Outputs,
    mut finish: impl FnMut(u8) -> Result<(), ContainerError>,
) -> Result<Ended, ContainerError> {
    let process = watched.init.open();
    let mut watch = Watch {
        watched,
        outputs,
        process,
        code: None,
        ended_by: None,
        ended_at: None,
    };
    let mut finished = false;
    // The program may have ended before the first signal could be read.
    watch.reap();
    loop {
        if let (Some(code), false) = (watch.code, finished) {
            finished = true;
            if let Err(error) = finish(code) {
                tracing::warn!(container = watch.watched.container.id.short(), "{error}");
            }
        }
        watch.copy();
        watch.look_whether_ready();
        if let Some(code) = watch.code
            && watch.is_done()
        {
            watch.outputs.log.finish();
            let lost = watch.outputs.log.lost_bytes();
            if lost > 0 {
                tracing::warn!("{lost} bytes of the log could not be written");
            }
            return Ok(Ended {
                code,
                client: watch.watched.client.take(),
            });
        }
        watch.wait()?;
    }
}

struct Watch<'a> {
    watched: Watched<'a>,
    outputs: Outputs,
    process: Option<Process>,
    code: Option<u8>,
    /// The signal in whose place the program was killed.
    ended_by: Option<i32>,
    ended_at: Option<Instant>,
}

impl Watch<'_> {
    fn is_done(&self) -> bool {
        let late = self
            .ended_at
            .is_some_and(|at| at.elapsed() > TERMINAL_REST_LIMIT);
        let is_terminal = self.outputs.input.is_some();
        self.outputs.relays.iter().all(|relay| relay.is_done()) || (late && is_terminal)
    }

    fn copy(&mut self) {
        for relay in &mut self.outputs.relays {
            relay.advance(&mut self.outputs.log);
        }
        if let Some(input) = &mut self.outputs.input {
            input.advance();
        }
    }

    fn look_whether_ready(&mut self) {
        let has_written = self.outputs.relays.iter().any(|relay| relay.has_copied());
        if self.watched.readiness.is_reached(has_written) {
            (self.watched.on_ready)();
        }
    }

    /// Waits for something to do, and does it unless it is copying.
    fn wait(&mut self) -> Result<(), ContainerError> {
        let mut fds = vec![PollFd::new(&self.watched.signals, PollFlags::IN)];
        let has_client = self.watched.client.is_some();
        fds.extend(
            self.watched
                .client
                .iter()
                .map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        let copying = fds.len();
        let mut owners = Vec::new();
        for (number, relay) in self.outputs.relays.iter().enumerate() {
            for (fd, flags) in relay.interests() {
                owners.push((number, flags));
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
        }
        for (fd, flags) in self
            .outputs
            .input
            .iter()
            .flat_map(|input| input.interests())
        {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let limit = match self.code {
            Some(_) => Some(TERMINAL_REST_LIMIT),
            None => self.watched.readiness.next_look(),
        };
        let limit = limit.map(timespec);
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(ContainerError::kernel("wait for the container")(errno)),
        }
        // A client's pipe that reports an error without being asked for anything is closed.
        let closed: Vec<usize> = owners
            .iter()
            .zip(&fds[copying..])
            .filter(|((_, asked), fd)| asked.is_empty() && fd.revents().contains(PollFlags::ERR))
            .map(|((number, _), _)| *number)
            .collect();
        let signalled = !fds[0].revents().is_empty();
        let client_spoke = has_client && !fds[1].revents().is_empty();
        for number in closed {
            self.outputs.relays[number].drop_client();
        }
        if signalled {
            self.read_signals();
        }
        if client_spoke {
            self.read_client();
        }
        Ok(())
    }

    fn read_signals(&mut self) {
        while let Ok(Some(information)) = self.watched.signals.read_signal() {
            let number = i32::try_from(information.ssi_signo).unwrap_or_default();
            if number == Signal::CHILD.as_raw() {
                self.reap();
            } else if PASSED_ON.iter().any(|signal| signal.as_raw() == number) {
                self.deliver(number);
            }
        }
    }

    /// Takes in every process that has ended; the container's first one among them.
    fn reap(&mut self) {
        let init = Pid::from_raw(self.watched.init.pid);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if Some(pid) == init && self.code.is_none() {
                self.code = Some(self.exit_code(status));
                self.ended_at = Some(Instant::now());
                self.outputs.held_input = None;
                for relay in &mut self.outputs.relays {
                    relay.end();
                }
            }
        }
    }

    fn exit_code(&self, status: WaitStatus) -> u8 {
        match (
            status.exit_status(),
            status.terminating_signal(),
            self.ended_by,
        ) {
            (_, Some(9), Some(signal)) => signal_exit_code(signal),
            (Some(code), ..) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            (None, Some(signal), _) => signal_exit_code(signal),
            (None, None, _) => u8::MAX,
        }
    }

    fn read_client(&mut self) {
        let Some(mut client) = self.watched.client.take() else {
            return;
        };
        let mut received = client.receive_available::<Command>();
        loop {
            match received {
                Ok(Received::Message(command)) => self.obey(command),
                Ok(Received::Nothing) => {
                    self.watched.client = Some(client);
                    return;
                }
                // The client has gone: the container goes on, as one that was detached.
                Ok(Received::Closed) | Err(_) => return,
            }
            received = client
                .take_message()
                .map(|message| message.map_or(Received::Nothing, Received::Message));
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Signal(number) => self.deliver(number),
            Command::Resize(size) => {
                if let Some(input) = &self.outputs.input {
                    set_window_size(input.master().as_fd(), size);
                }
            }
            Command::StdinClosed => {
                if let Some(input) = &mut self.outputs.input {
                    input.end();
                }
            }
            Command::OutputClosed(stream) => {
                for relay in &mut self.outputs.relays {
                    if relay.stream() == stream {
                        relay.close();
                    }
                }
                // A terminal that nobody looks at is hung up (SIGHUP).
                self.outputs.input = None;
            }
        }
    }

    /// Gives the program a signal. One that would end any other program, but cannot reach
    /// this one ([`State::is_deaf`]), ends it all the same, and its exit code says so.
    fn deliver(&mut self, number: i32) {
        let Some(process) = &self.process else { return };
        let ends = ENDING.iter().any(|signal| signal.as_raw() == number);
        let result = if ends && self.watched.state.is_deaf(process, number) {
            self.ended_by = Some(number);
            process.kill()
        } else {
            process.signal(number)
        };
        if let Err(error) = result {
            tracing::warn!(container = self.watched.container.id.short(), "{error}");
        }
    }
}
