//! An error at the command line: words, a hint, an exit code.

use std::fmt;

use crate::daemon::client::ClientError;
use crate::daemon::control::Failure;

/// What a verb that failed says, and the code that it exits with.
#[derive(Debug)]
pub struct CliError {
    /// What is wrong, naming the input.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl CliError {
    /// An error of these words.
    pub fn new(message: impl Into<String>) -> Self {
        CliError { message: message.into(), hint: None }
    }

    /// The same with a remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        CliError { message: failure.message, hint: failure.hint }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Failed(failure) => failure.into(),
            other => CliError::new(other.to_string()),
        }
    }
}

/// Turns any error into a [`CliError`] with its causes in the message.
pub fn because(error: impl std::error::Error) -> CliError {
    CliError::new(crate::mount::error::describe(&error))
}
