//! What is known of a container between two commands.

mod directory;
mod liveness;
mod time;

pub use directory::{Directory, list};
pub use liveness::{is_alive, start_time};
pub use time::rfc3339;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;

/// Version of the runtime specification that is implemented.
pub const SPEC_VERSION: &str = "1.3.0";

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Being made; a crash of `create` leaves it so.
    Creating,
    /// Waiting for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// The specification's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }

    /// Whether `start` is allowed.
    #[must_use]
    pub fn can_start(self) -> bool {
        self == Self::Created
    }

    /// Whether signals reach anything.
    #[must_use]
    pub fn can_kill(self) -> bool {
        matches!(self, Self::Created | Self::Running | Self::Paused)
    }

    /// Whether `exec` is allowed (a paused container needs to be asked for).
    #[must_use]
    pub fn can_exec(self) -> bool {
        matches!(self, Self::Created | Self::Running)
    }

    /// Whether `pause` is allowed.
    #[must_use]
    pub fn can_pause(self) -> bool {
        matches!(self, Self::Created | Self::Running)
    }

    /// Whether `resume` is allowed.
    #[must_use]
    pub fn can_resume(self) -> bool {
        self == Self::Paused
    }

    /// Whether `delete` is allowed without force: nothing of the user's runs.
    #[must_use]
    pub fn can_delete(self) -> bool {
        matches!(self, Self::Stopped | Self::Creating | Self::Created)
    }
}

/// `state.json`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The container's name.
    pub id: String,
    /// Its first process; 0 while it is being made.
    pub pid: i32,
    /// When that process began, in clock ticks since boot: tells it from a later one with the
    /// same number.
    pub start_time: u64,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root filesystem on the host, absolute.
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// `annotations` of the specification.
    pub annotations: BTreeMap<String, String>,
    /// Whether others were in its cgroup before it: then not all in there is its own to kill.
    #[serde(default)]
    pub shares_cgroup: bool,
    /// Where its processes are confined.
    pub cgroup: Cgroup,
}

/// The document that `state` prints and hooks read; runc's additions included.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    #[serde(rename = "ociVersion")]
    oci_version: &'static str,
    id: &'a str,
    pid: i32,
    status: &'static str,
    bundle: &'a std::path::Path,
    rootfs: &'a std::path::Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'static str,
}

impl Report<'_> {
    /// Whether the container still has its first process.
    #[must_use]
    pub fn has_process(&self) -> bool {
        self.pid != 0
    }
}

impl State {
    /// The public form. A stopped container has no process.
    #[must_use]
    pub fn report(&self, status: Status) -> Report<'_> {
        Report {
            oci_version: SPEC_VERSION,
            id: &self.id,
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            status: status.as_str(),
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            // Only root runs containers until rootless ones are supported.
            owner: "",
        }
    }
}
