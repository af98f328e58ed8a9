//! What can go wrong with a container, and the exit code and hint of each.

use super::image::ImageError;
use std::io;
use std::path::{Path, PathBuf};

/// Exit code of `brisk run` and `brisk exec` for a failure of brisk's own.
pub const EXIT_BRISK_FAILED: u8 = 125;
/// Exit code where the program was found but could not be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// Exit code where the program was not found.
pub const EXIT_NOT_FOUND: u8 = 127;

/// A failure around a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried, such as "create".
        action: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A kernel call that names no file failed.
    #[error("{action}: {source}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An option of the command line has a value that cannot be used.
    #[error("--{option} {value:?}: {reason}")]
    Option {
        /// The option without its dashes.
        option: &'static str,
        /// The value as it was given.
        value: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The image's configuration asks for something that cannot be done.
    #[error("the image's configuration: {0}")]
    ImageConfig(String),
    /// A user or group is not in the image.
    #[error("no {kind} {name:?} in the image's {file}")]
    UnknownUser {
        /// "user" or "group".
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The file that was searched.
        file: &'static str,
    },
    /// The image names no program and neither does the command line.
    #[error("the image {0} names no command to run, and none was given")]
    NoCommand(String),
    /// The image could not be made available.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// No container has this name or id.
    #[error("no container {0:?}")]
    NoSuchContainer(String),
    /// Several containers have an id that starts so.
    #[error("{0:?} is the beginning of several container ids")]
    Ambiguous(String),
    /// The name belongs to another container.
    #[error("the name {name:?} is in use by container {holder}")]
    NameInUse {
        /// The name asked for.
        name: String,
        /// The short id of its holder.
        holder: String,
    },
    /// The container's state forbids what was asked.
    #[error("container {container} is {state}: cannot {verb} it")]
    WrongState {
        /// Name or short id.
        container: String,
        /// Its state in words.
        state: String,
        /// What was asked.
        verb: &'static str,
    },
    /// The OCI runtime is nowhere to be found.
    #[error("no OCI runtime {0:?}")]
    NoRuntime(String),
    /// The OCI runtime refused.
    #[error("{runtime} {verb}: {message}")]
    Runtime {
        /// Program name of the runtime.
        runtime: String,
        /// The runtime's verb, such as "create".
        verb: &'static str,
        /// The runtime's own words.
        message: String,
        /// What the words mean for the exit code.
        failure: RuntimeFailure,
    },
    /// A file of a container's directory does not hold what brisk writes there.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The monitor ended without a word.
    #[error("the container's monitor ended unexpectedly")]
    MonitorGone,
    /// The monitor reported a failure; its exit code and hint travel along.
    #[error("{message}")]
    Reported {
        /// The monitor's words.
        message: String,
        /// The exit code for it.
        exit_code: u8,
        /// A remedy, where there is one.
        hint: Option<String>,
    },
    /// The user gave up (Ctrl-C) while the container was being prepared.
    #[error("interrupted before the container started")]
    Interrupted {
        /// The signal that said so.
        signal: i32,
    },
    /// A wait reached its limit.
    #[error("{what} took longer than {seconds} s")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        seconds: u64,
    },
}

/// Why an OCI runtime refused to create or start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RuntimeFailure {
    /// The program to run does not exist.
    NotFound,
    /// The program exists and cannot be executed.
    NotExecutable,
    /// Anything else.
    Other,
}

impl ContainerError {
    /// An error of a file operation, for `map_err`.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ContainerError {
        let path = path.to_path_buf();
        move |source| ContainerError::File {
            action,
            path,
            source,
        }
    }

    /// An error of a kernel call through rustix, for `map_err`.
    pub fn kernel(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> ContainerError {
        move |errno| ContainerError::Kernel {
            action,
            source: errno.into(),
        }
    }

    /// An unusable value of an option.
    pub fn option(option: &'static str, value: &str, reason: impl Into<String>) -> ContainerError {
        ContainerError::Option {
            option,
            value: value.to_owned(),
            reason: reason.into(),
        }
    }

    /// Exit code of `brisk run` and `brisk exec` for this error, as docker's.
    pub fn exit_code(&self) -> u8 {
        match self {
            ContainerError::Runtime {
                failure: RuntimeFailure::NotFound,
                ..
            } => EXIT_NOT_FOUND,
            ContainerError::Runtime {
                failure: RuntimeFailure::NotExecutable,
                ..
            } => EXIT_NOT_EXECUTABLE,
            ContainerError::Reported { exit_code, .. } => *exit_code,
            ContainerError::Interrupted { signal } => signal_exit_code(*signal),
            _ => EXIT_BRISK_FAILED,
        }
    }

    /// A remedy, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            ContainerError::NoRuntime(_) => Some(
                "install brisk-runtime beside brisk, or name another: --runtime /usr/sbin/runc"
                    .to_owned(),
            ),
            ContainerError::NameInUse { name, .. } => Some(format!(
                "remove it with `brisk rm {name}` or choose another --name"
            )),
            ContainerError::NoSuchContainer(_) => Some("`brisk ps -a` lists them all".to_owned()),
            ContainerError::NoCommand(_) => Some("give one: brisk run IMAGE COMMAND".to_owned()),
            ContainerError::Image(error) => error.hint.clone(),
            ContainerError::Reported { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    /// Whether no container has the name asked for.
    pub fn is_no_such_container(&self) -> bool {
        matches!(self, ContainerError::NoSuchContainer(_))
    }

    /// Whether the user gave up before the container started.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, ContainerError::Interrupted { .. })
    }
}

/// The shell's exit code for a program ended by `signal`.
pub fn signal_exit_code(signal: i32) -> u8 {
    u8::try_from(signal)
        .ok()
        .and_then(|signal| signal.checked_add(128))
        .unwrap_or(255)
}
