//! The protocol between service and keeper: one JSON message a packet.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::MountError;
use crate::record::{MountId, MountRecord};
use crate::socket;

/// What the service asks of the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The sender serves the mounts from now on; when it dies unasked, `command` starts the next.
    Serve {
        /// Program and arguments of the service.
        command: Vec<String>,
        /// Without a server for so long, the keeper aborts every mount; never where there is none.
        #[serde(default)]
        orphan_timeout: Option<Duration>,
    },
    /// Open the device, mount, and answer `Held` with the descriptor.
    Mount {
        /// What is to be mounted.
        record: MountRecord,
    },
    /// Keep a descriptor that another keeper, now dead, has held; it comes with the message.
    Adopt {
        /// What is mounted.
        record: MountRecord,
        /// The kernel's FUSE_INIT message of that connection.
        init: Vec<u8>,
        /// Number of that connection.
        connection: u32,
    },
    /// Answer every held mount by a `Held`, then `Done`.
    List,
    /// Close the descriptor of a mount that is no more.
    Forget {
        /// The mount.
        id: MountId,
    },
    /// Abort the connection of a mount: waiting and later requests fail with ECONNABORTED.
    Abort {
        /// The mount.
        id: MountId,
    },
    /// The service stops on purpose: do not start it again.
    Leave,
}

/// What the keeper answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromKeeper {
    /// A mount, with its descriptor.
    Held {
        /// What is mounted.
        record: MountRecord,
        /// The kernel's FUSE_INIT message.
        init: Vec<u8>,
        /// Number of the FUSE connection.
        connection: u32,
    },
    /// The request is carried out.
    Done,
    /// The request failed; nothing was changed.
    Failed {
        /// Why, in words for the user.
        message: String,
    },
}

/// Sends one message of the protocol.
pub fn send<M: Serialize>(
    socket: BorrowedFd<'_>,
    message: &M,
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), MountError> {
    let bytes = serde_json::to_vec(message).map_err(|e| MountError::Protocol(e.to_string()))?;
    socket::send(socket, &bytes, fd).map_err(MountError::Keeper)
}

/// Receives one message; the other side having closed is an error of kind `UnexpectedEof`.
pub fn receive<M: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<(M, Option<OwnedFd>), MountError> {
    let (bytes, fd) = socket::receive(socket).map_err(MountError::Keeper)?;
    if bytes.is_empty() {
        return Err(MountError::Keeper(io::ErrorKind::UnexpectedEof.into()));
    }
    let message =
        serde_json::from_slice(&bytes).map_err(|e| MountError::Protocol(e.to_string()))?;
    Ok((message, fd))
}

/// Where the keeper's socket, its lock and its log lie below a root.
pub struct KeeperPaths {
    /// Directory of the sockets.
    pub run: PathBuf,
}

impl KeeperPaths {
    /// Name of the keeper's socket in `run`.
    pub const SOCKET: &'static str = "keeper.sock";
    /// Name of the file whose lock only one keeper of a root can hold.
    pub const LOCK: &'static str = "keeper.lock";
    /// Name of the file that a keeper's and its service's words go to.
    pub const LOG: &'static str = "service.log";
}
