//! What must be known of a mount to serve it again without the network.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Names one mount for its whole life: unique under a root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MountId(pub String);

/// A mount as the keeper remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// The mount's name.
    pub id: MountId,
    /// The mount point.
    pub directory: PathBuf,
    /// The source that `/proc/mounts` shows.
    pub label: String,
    /// Leave out `nosuid`.
    pub suid: bool,
    /// Leave out `nodev`.
    pub dev: bool,
    /// What the service needs to serve it; the keeper does not look inside.
    pub content: serde_json::Value,
}
