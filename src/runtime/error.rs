//! Why a verb failed.

use std::io;
use std::path::PathBuf;

/// Everything that a verb can fail with. The text is what the user and a shim's log read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// A document is not what the runtime specification allows.
    #[error("{}: {reason}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The specification asks for something that this runtime does not do.
    #[error("{field} is not supported: {reason}")]
    Unsupported {
        /// The field, as the specification names it.
        field: String,
        /// What is missing.
        reason: String,
    },
    /// The specification contradicts itself.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// The field, as the specification names it.
        field: String,
        /// The contradiction.
        reason: String,
    },
    /// No container of this name under this root.
    #[error("container \"{0}\" does not exist")]
    NotFound(String),
    /// The name is taken.
    #[error("container with id \"{0}\" exists already")]
    Exists(String),
    /// The container's state does not allow the verb.
    #[error("cannot {verb} a {status} container{}", explain_not_running(status))]
    WrongState {
        /// The verb.
        verb: &'static str,
        /// The container's state.
        status: &'static str,
    },
    /// A signal for processes that are gone (shims look for these words).
    #[error("container not running")]
    NotRunning,
    /// A system call failed.
    #[error("{action}: {source}")]
    Os {
        /// What was being done, with the path.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// systemd could not be reached or did not do as it was asked.
    #[error("systemd: {action}: {reason}")]
    Systemd {
        /// What it was asked for.
        action: String,
        /// Its answer.
        reason: String,
    },
    /// What the container's first process reported before its program ran.
    #[error("unable to start container process: {0}")]
    Init(String),
    /// A hook failed.
    #[error("error running hook {}: {reason}", path.display())]
    Hook {
        /// Its program.
        path: PathBuf,
        /// How.
        reason: String,
    },
}

fn explain_not_running(status: &str) -> &'static str {
    if status == "stopped" {
        " (container not running)"
    } else {
        ""
    }
}

impl Error {
    /// Whether the container is not there at all.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// An invalid field.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A field that is refused.
    pub fn unsupported(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was being done when a system call failed.
pub trait Context<T> {
    /// Wraps the error with `action`, which is built only on failure.
    ///
    /// # Errors
    /// [`Error::Os`] where `self` is an error.
    fn doing<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::Os {
            action: action().into(),
            source: error.into(),
        })
    }
}
