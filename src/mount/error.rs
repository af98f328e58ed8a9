//! What can go wrong between the service, the keeper and the kernel.

use std::io;
use std::path::PathBuf;

/// Errors of mounting and of the keeper protocol.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A system call on a path failed.
    #[error("{action} {}: {source}", path.display())]
    Path {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The path it was attempted on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The FUSE device or the mount call failed, as the keeper reports it.
    #[error("mounting {}: {message}", directory.display())]
    Refused {
        /// The directory that was to become the mount point.
        directory: PathBuf,
        /// The keeper's words.
        message: String,
    },
    /// Talking to the keeper failed.
    #[error("keeper connection: {0}")]
    Keeper(#[source] io::Error),
    /// A message on the keeper's socket is not one of the protocol.
    #[error("keeper protocol: {0}")]
    Protocol(String),
    /// The FUSE session could not be taken over.
    #[error("FUSE session of {}: {message}", directory.display())]
    Session {
        /// The mount point.
        directory: PathBuf,
        /// The FUSE layer's words.
        message: String,
    },
}

impl MountError {
    /// True where the keeper has gone and a new one may be started.
    pub fn is_keeper_gone(&self) -> bool {
        matches!(self, MountError::Keeper(_))
    }
}

/// An error with its causes, in one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
