//! What a verb fails with: words, a remedy and an exit code.

use crate::daemon::client::ClientError;
use crate::daemon::config::ConfigError;
use crate::daemon::control::Failure;
use brisk_container::ContainerError;
use brisk_mount::error::describe;
use std::fmt;

/// Exit code of the verbs whose exit code is not a program's.
pub const EXIT_FAILED: u8 = 1;

/// A failure of a verb, ready to be shown.
#[derive(Debug)]
pub struct CliError {
    /// What went wrong.
    pub error: anyhow::Error,
    /// A remedy, where there is one.
    pub hint: Option<String>,
    /// The process's exit code.
    pub exit_code: u8,
}

impl CliError {
    /// A failure of these words.
    pub fn new(message: impl Into<String>) -> CliError {
        CliError::from(anyhow::Error::msg(message.into()))
    }

    /// The same with a remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// A failure of `run` or `exec`, whose exit codes tell a program's from brisk's own.
    pub fn of_program(error: ContainerError) -> CliError {
        let exit_code = error.exit_code();
        CliError {
            exit_code,
            ..CliError::from(error)
        }
    }
}

impl From<ContainerError> for CliError {
    fn from(error: ContainerError) -> CliError {
        CliError {
            hint: error.hint(),
            exit_code: EXIT_FAILED,
            error: error.into(),
        }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> CliError {
        CliError {
            hint: failure.hint,
            ..CliError::new(failure.message)
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        match error {
            ClientError::Failed(failure) => failure.into(),
            other => because(other),
        }
    }
}

/// A failure that some error is the cause of; its own causes are shown as well.
pub fn because(error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::from(anyhow::Error::new(error))
}

/// The configuration cannot be used.
pub fn wrong_config(error: ConfigError) -> CliError {
    let hint = error.hint();
    because(error).hint(hint)
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> CliError {
        CliError {
            error,
            hint: None,
            exit_code: EXIT_FAILED,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&describe(self.error.as_ref()))?;
        match &self.hint {
            Some(hint) => write!(formatter, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}
