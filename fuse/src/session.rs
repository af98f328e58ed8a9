//! Serving a mount whose device outlives its servers.
//!
//! fuser begins every session with FUSE_INIT, but a device that another server has served gets no
//! second one. So the handshake runs over a socket pair, with the FUSE_INIT that was kept when
//! the tree was mounted, and only then the live device takes the socket's place. The first server
//! and every later one do the same.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use fuser::{Config, SessionACL};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, shutdown, socketpair,
};
use nix::unistd::write;
use std::os::fd::AsRawFd;
use thiserror::Error;

use crate::adapter::Adapter;
use crate::content::Content;
use crate::init::{InitError, InitRequest, OUT_HEADER, word};
use crate::requests::RequestCounts;
use crate::tree::MountedTree;
use crate::waiting::WaitingReads;

/// Reader threads: one serves a single-threaded program best (a second one only adds wake-ups of
/// the other CPU), two keep a small machine busy, more were slower on two CPUs.
pub const THREADS_MAX: usize = 2;

/// `FUSE_NOTIFY_RESEND` of linux/fuse.h.
const NOTIFY_RESEND: u32 = 7;

/// A reply to FUSE_INIT is 80 bytes; a page is more than any version has.
const INIT_REPLY_MAX: usize = 4096;

/// Makes `target` refer to the open file of `source`, atomically and close-on-exec, keeping its
/// number: dup3(2). Given from outside because this crate has no unsafe code and the owner of
/// `target` is inside fuser.
pub type ReplaceDescriptor = fn(target: BorrowedFd<'_>, source: BorrowedFd<'_>) -> io::Result<()>;

/// How a session is served.
#[derive(Clone)]
pub struct SessionOptions {
    /// Reader threads, 1 to [`THREADS_MAX`]; other values are brought into that range.
    pub threads: usize,
    /// Whether an earlier server may have left requests unanswered. That server must have ended:
    /// it would answer what the kernel sends again.
    pub resuming: bool,
    /// The registry of waiting reads, shared by all sessions of the process.
    pub waiting: Arc<WaitingReads>,
    /// Where requests are counted; several sessions may share it.
    pub requests: Arc<RequestCounts>,
    /// See [`ReplaceDescriptor`].
    pub replace_descriptor: ReplaceDescriptor,
}

/// Why a device could not be taken over. The device is untouched, or usable for another attempt.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The kept FUSE_INIT is unusable.
    #[error("the FUSE_INIT kept for this mount is unusable")]
    Init(#[from] InitError),
    /// The kernel cannot send unanswered requests again: Linux before 6.9. Requests in flight at
    /// the old server's end can only be ended by aborting the connection.
    #[error("this kernel cannot resend FUSE requests (Linux 6.9 can)")]
    ResendUnsupported,
    /// The handshake over the socket pair failed.
    #[error("the FUSE handshake failed: {step}")]
    Handshake {
        /// What was being done.
        step: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// fuser answered the handshake with an error or with something else.
    #[error("the FUSE handshake ended without a usable reply")]
    Reply,
    /// The device did not accept the handshake's outcome.
    #[error("the FUSE device refused: {step}")]
    Device {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
    /// Reading requests failed in another way than by the end of the mount.
    #[error("serving the FUSE device failed")]
    Serve(#[source] io::Error),
}

impl SessionError {
    /// Whether only an abort of the connection can end what the old server left unanswered.
    pub fn is_resend_unsupported(&self) -> bool {
        matches!(self, Self::ResendUnsupported)
    }
}

/// A mount that this process serves. Dropping it never unmounts anything.
pub struct Session<C: Content> {
    session: fuser::Session<Adapter<C>>,
}

impl<C: Content> Session<C> {
    /// Takes over `device`, the descriptor of a mount made by [`crate::device::open_and_mount`],
    /// with the FUSE_INIT that came with it. `tree` must be over the same index as that of every
    /// earlier server of this mount: the kernel has its numbers cached.
    ///
    /// This process must be in the pid namespace of the process that mounted (see
    /// [`crate::waiting`]), and all its threads read the one device: requests that a cloned
    /// device holds would be lost with its process.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn adopt(
        device: OwnedFd,
        init: &[u8],
        tree: MountedTree<C>,
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        let request = InitRequest::parse(init)?;
        if options.resuming && !request.can_resend() {
            return Err(SessionError::ResendUnsupported);
        }
        let adapter = Adapter::new(tree, Arc::clone(&options.waiting), options.requests);
        let (session, reply) = shake_hands(adapter, init, &request, options.threads)?;
        (options.replace_descriptor)(session.as_fd(), device.as_fd()).map_err(|source| {
            SessionError::Handshake {
                step: "taking the device over",
                source,
            }
        })?;
        answer_init(device.as_fd(), &reply)?;
        if options.resuming {
            ask_for_resend(device.as_fd())?;
        }
        Ok(Self { session })
    }

    /// Serves requests until the tree is unmounted or its connection aborted.
    ///
    /// # Errors
    /// Reading the device failed in another way.
    pub fn run(self) -> Result<(), SessionError> {
        match self.session.run() {
            Ok(()) => Ok(()),
            // What the device says once the connection is gone, at whatever moment that was.
            Err(error) if is_end(&error) => Ok(()),
            Err(error) => Err(SessionError::Serve(error)),
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::ENODEV | Errno::ECONNABORTED | Errno::ENOTCONN)
    )
}

/// The handshake over a socket pair: the session, on the pair, and the reply for the kernel.
fn shake_hands<C: Content>(
    adapter: Adapter<C>,
    init: &[u8],
    request: &InitRequest,
    threads: usize,
) -> Result<(fuser::Session<Adapter<C>>, Vec<u8>), SessionError> {
    let failed = |step| {
        move |errno: Errno| SessionError::Handshake {
            step,
            source: io::Error::from(errno),
        }
    };
    // Packets keep the boundaries of messages, as the device does.
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(failed("making a socket pair"))?;
    send(ours.as_raw_fd(), init, MsgFlags::MSG_NOSIGNAL).map_err(failed("sending FUSE_INIT"))?;
    // Should fuser want another request, it finds the end instead of waiting for ever.
    shutdown(ours.as_raw_fd(), Shutdown::Write).map_err(failed("closing the socket"))?;

    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(threads.clamp(1, THREADS_MAX));
    config.clone_fd = false;
    let session =
        fuser::Session::from_fd(adapter, theirs, SessionACL::All, config).map_err(|source| {
            SessionError::Handshake {
                step: "starting the session",
                source,
            }
        })?;

    let mut reply = vec![0; INIT_REPLY_MAX];
    let length = recv(ours.as_raw_fd(), &mut reply, MsgFlags::MSG_DONTWAIT)
        .map_err(failed("receiving the reply"))?;
    reply.truncate(length);
    if !is_success(&reply, request.unique) {
        return Err(SessionError::Reply);
    }
    Ok((session, reply))
}

/// Whether `reply` is a successful answer to request `unique`: `struct fuse_out_header` holds
/// length, error (negative errno or 0) and unique.
fn is_success(reply: &[u8], unique: u64) -> bool {
    let field = |offset| word(reply, offset);
    reply.len() > OUT_HEADER
        && field(0).is_some_and(|length| length as usize == reply.len())
        && field(4) == Some(0)
        && field(8).zip(field(12)) == Some((unique as u32, (unique >> 32) as u32))
}

/// Answers the kernel's FUSE_INIT. When an earlier server did, the kernel knows no such request.
fn answer_init(device: BorrowedFd<'_>, reply: &[u8]) -> Result<(), SessionError> {
    match write(device, reply) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(SessionError::Device {
            step: "answering FUSE_INIT",
            errno,
        }),
    }
}

/// Has the kernel send every request again that was read and not answered.
fn ask_for_resend(device: BorrowedFd<'_>) -> Result<(), SessionError> {
    let mut notification = [0; OUT_HEADER];
    notification[..4].copy_from_slice(&(OUT_HEADER as u32).to_ne_bytes());
    notification[4..8].copy_from_slice(&NOTIFY_RESEND.to_ne_bytes());
    match write(device, &notification) {
        Ok(_) => Ok(()),
        Err(errno) => Err(SessionError::Device {
            step: "asking for a resend",
            errno,
        }),
    }
}

#[cfg(test)]
mod tests;
