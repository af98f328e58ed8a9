//! Staying with a process in the foreground: its signals, its terminal, its exit code.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use sys::clone::Child;

use crate::error::{Context, Error, Result};

/// Bytes moved between terminals at once: a screenful and more.
const BUFFER: usize = 16 << 10;

/// Waits for `child` while passing signals on to it. Returns the exit code, 128 and the signal
/// for one that was killed.
///
/// # Errors
/// [`Error::Os`].
pub fn wait_for(child: &Child) -> Result<u8> {
    let signals = catch_signals()?;
    loop {
        let mut events = [
            PollFd::new(&child.pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        wait_for_events(&mut events)?;
        let ended = !events[0].revents().is_empty();
        if !events[1].revents().is_empty() {
            pass_signals(&signals, child, None)?;
        }
        if ended {
            return exit_code(child.pid);
        }
    }
}

/// [`wait_for`] with the terminal of the process, received over `socket`, joined to this
/// process's own.
///
/// # Errors
/// [`Error::Os`].
pub fn relay(child: &Child, socket: &UnixStream) -> Result<u8> {
    let master = receive_master(socket)?;
    let signals = catch_signals()?;
    let raw = RawTerminal::of_stdin();
    copy_size(&master);
    let mut input_open = true;
    let mut buffer = vec![0; BUFFER];
    loop {
        let stdin = rustix::stdio::stdin();
        let wanted = if input_open {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut events = [
            PollFd::new(&child.pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::new(&master, PollFlags::IN),
            PollFd::from_borrowed_fd(stdin, wanted),
        ];
        wait_for_events(&mut events)?;
        let happened = events.map(|event| !event.revents().is_empty());
        if happened[1] {
            pass_signals(&signals, child, Some(&master))?;
        }
        if happened[2] {
            copy(master.as_fd(), rustix::stdio::stdout(), &mut buffer);
        } else if happened[0] {
            break;
        }
        if happened[3] && input_open {
            input_open = copy(stdin, master.as_fd(), &mut buffer);
        }
        if happened[0] && !copy_ready(&master) {
            break;
        }
    }
    drop(raw);
    exit_code(child.pid)
}

fn wait_for_events(events: &mut [PollFd<'_>]) -> Result<()> {
    match poll(events, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error).doing(|| "wait for the process"),
    }
}

/// Whether there is output left to read.
fn copy_ready(master: &OwnedFd) -> bool {
    let now = rustix::event::Timespec::default();
    let mut events = [PollFd::new(master, PollFlags::IN)];
    poll(&mut events, Some(&now)).is_ok() && events[0].revents().contains(PollFlags::IN)
}

/// Moves what is there. False at the end of input.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, buffer: &mut [u8]) -> bool {
    let length = match rustix::io::read(from, &mut *buffer) {
        Ok(0) | Err(Errno::IO) => return false,
        Ok(length) => length,
        Err(_) => return true,
    };
    let mut rest = &buffer[..length];
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return false,
        }
    }
    true
}

/// All but those that say something about this process itself are read from a descriptor.
fn catch_signals() -> Result<SignalFd> {
    let mut set = SigSet::all();
    for own in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
    ] {
        set.remove(own);
    }
    set.thread_block().doing(|| "block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .doing(|| "make a signalfd")
}

fn pass_signals(signals: &SignalFd, child: &Child, master: Option<&OwnedFd>) -> Result<()> {
    while let Some(signal) = signals.read_signal().doing(|| "read a signal")? {
        let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
        match number {
            nix::libc::SIGCHLD | nix::libc::SIGPIPE => {}
            nix::libc::SIGWINCH if master.is_some() => {
                if let Some(master) = master {
                    copy_size(master);
                }
            }
            // One that has ended is about to be noticed.
            _ => drop(sys::signal::send(child.pidfd.as_fd(), number)),
        }
    }
    Ok(())
}

fn copy_size(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}

fn exit_code(pid: i32) -> Result<u8> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code.to_le_bytes()[0]),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(128 + (signal as i32).to_le_bytes()[0]);
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).doing(|| "wait for the process"),
        }
    }
}

fn receive_master(socket: &UnixStream) -> Result<OwnedFd> {
    let mut name = [0; 64];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut name)];
    recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)
        .doing(|| "receive the terminal")?;
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    rights.ok_or_else(|| Error::Init(format!("no terminal came over {}", socket.as_raw_fd())))
}

/// Standard input in raw mode, if it is a terminal, until dropped.
struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    fn of_stdin() -> Self {
        let before = tcgetattr(rustix::stdio::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &raw);
        }
        Self { before }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, before);
        }
    }
}
