//! What `brisk run` was asked for, checked, and in a form that travels to the monitor.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Seconds between the stop signal and SIGKILL where nothing else is said (docker's).
pub const DEFAULT_STOP_TIMEOUT_SECONDS: u32 = 10;

/// Everything `brisk run` can ask for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RunOptions {
    /// The image reference as the user wrote it.
    pub image: String,
    /// `os/architecture[/variant]`, or none for the host's.
    pub platform: Option<String>,
    /// The arguments after the image; replace the image's Cmd.
    pub command: Vec<String>,
    /// The name asked for, else one is made from the id.
    pub name: Option<String>,
    /// Remove the container when it has ended.
    pub remove: bool,
    /// `KEY=VALUE`, in the order given.
    pub environment: Vec<String>,
    /// Host directories and files to show in the container.
    pub binds: Vec<Bind>,
    /// Paths that are volumes without a host directory.
    pub anonymous_volumes: Vec<PathBuf>,
    /// Memory file systems.
    pub tmpfs: Vec<Tmpfs>,
    /// Replaces the image's WorkingDir.
    pub working_directory: Option<String>,
    /// `user[:group]`; replaces the image's User.
    pub user: Option<String>,
    /// Replaces the image's Entrypoint; empty clears it.
    pub entrypoint: Option<String>,
    /// The root file system is read-only.
    pub read_only: bool,
    /// Replaces the host name.
    pub hostname: Option<String>,
    /// Limits of the cgroup.
    pub limits: Limits,
    /// Capability names to add.
    pub capabilities_added: Vec<String>,
    /// Capability names to drop.
    pub capabilities_dropped: Vec<String>,
    /// All capabilities and devices, no seccomp, no masked paths.
    pub privileged: bool,
    /// Which network the container sees.
    pub network: Network,
    /// Keep stdin open.
    pub interactive: bool,
    /// Give the container a terminal.
    pub terminal: bool,
    /// Window size of the terminal at the start.
    pub window: Option<WindowSize>,
    /// The OCI runtime, resolved to a path.
    pub runtime: PathBuf,
    /// Seconds between the stop signal and SIGKILL of `brisk stop`.
    pub stop_timeout_seconds: Option<u32>,
    /// Replaces the image's StopSignal.
    pub stop_signal: Option<i32>,
    /// The container counts as ready this many milliseconds after its start, whatever it writes.
    #[serde(default)]
    pub ready_after_ms: Option<u64>,
    /// Labels, for `ps` and other programs.
    pub labels: BTreeMap<String, String>,
}

/// One host path shown in the container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// No writing through it.
    pub read_only: bool,
    /// Mount propagation, such as `rprivate` (the default) or `rslave`.
    pub propagation: String,
}

/// One memory file system of the container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tmpfs {
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// Mount options, such as `size=64m`.
    pub options: Vec<String>,
}

/// Limits of the container's cgroup; none means unlimited.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Thousandths of one processor.
    pub cpu_millis: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
}

/// Which network the container sees.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// Nothing but a loopback device of its own.
    None,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}
