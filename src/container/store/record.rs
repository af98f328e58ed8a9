//! What is written about a container.

use crate::id::ContainerId;
use crate::options::RunOptions;
use crate::process::{Executable, Process, ProcessIdentity};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a container is; written when it is made and again when its image is known.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The image reference, normalised once the image is known.
    pub image: String,
    /// Digest of the image's manifest, once it is known.
    pub manifest_digest: Option<String>,
    /// What runs, once it is known.
    pub command: Vec<String>,
    /// What `brisk stop` sends first.
    pub stop_signal: i32,
    /// What the user asked for.
    pub options: RunOptions,
}

/// How far a container has come; written by its monitor alone.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct State {
    /// The last step reached.
    pub phase: Phase,
    /// Who writes this.
    pub monitor: Option<ProcessIdentity>,
    /// The container's first process.
    pub init: Option<ProcessIdentity>,
    /// What the first process executed before the program: the runtime.
    pub before_program: Option<Executable>,
    /// Milliseconds since 1970.
    pub started_unix_ms: Option<u64>,
    /// Milliseconds since 1970.
    pub finished_unix_ms: Option<u64>,
    /// The program's code, 128+n for an end by signal n.
    pub exit_code: Option<u8>,
    /// Why it never started, or what could not be cleared away.
    pub error: Option<String>,
}

impl State {
    /// Whether a signal that would end any other program must be replaced by SIGKILL to
    /// end `process`, the container's first one: it does nothing about the signal, which
    /// the kernel then drops for it, or it has not come to execute the program at all.
    pub fn is_deaf(&self, process: &Process, signal: i32) -> bool {
        let executes = process.executable();
        let waits = executes.is_some() && executes == self.before_program;
        waits || process.is_deaf_to(signal)
    }
}

/// The steps of a container's life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The image or the container is being prepared.
    Creating,
    /// The program runs.
    Running,
    /// The program has ended, or never began.
    Exited,
}

/// How a container is now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// The image or the container is being prepared.
    Creating,
    /// The program runs.
    Running,
    /// The program has ended; the code is unknown where nobody was left to see it (a
    /// reboot, a killed monitor).
    Exited {
        /// The program's code, 128+n for an end by signal n.
        code: Option<u8>,
    },
}

impl Status {
    /// Whether the program runs.
    pub fn is_running(self) -> bool {
        self == Status::Running
    }

    /// One word, as other engines say it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Running => "running",
            Status::Exited { .. } => "exited",
        }
    }
}

/// Milliseconds since 1970, now.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
