//! `process`.

use serde::{Deserialize, Serialize};

/// The program and what it runs as.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Process {
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    pub user: User,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub capabilities: Option<Capabilities>,
    pub rlimits: Vec<Rlimit>,
    pub no_new_privileges: bool,
    pub apparmor_profile: String,
    pub oom_score_adj: Option<i32>,
    pub scheduler: Option<Scheduler>,
    pub selinux_label: String,
    pub io_priority: Option<IoPriority>,
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// Size of the terminal in characters.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct ConsoleSize {
    pub height: u16,
    pub width: u16,
}

/// Numeric identity.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub umask: Option<u32>,
    pub additional_gids: Vec<u32>,
}

/// The five sets, as names with `CAP_`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Capabilities {
    pub bounding: Vec<String>,
    pub effective: Vec<String>,
    pub inheritable: Vec<String>,
    pub permitted: Vec<String>,
    pub ambient: Vec<String>,
}

/// One resource limit, by its `RLIMIT_` name.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: String,
    pub hard: u64,
    pub soft: u64,
}

/// `IOPRIO_CLASS_*` and a level within it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct IoPriority {
    pub class: String,
    #[serde(default)]
    pub priority: u8,
}

/// How the process is scheduled, by the names of sched_setattr(2). Times in nanoseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Scheduler {
    pub policy: String,
    pub nice: i32,
    pub priority: i32,
    pub flags: Vec<String>,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Processors that a further process may use, as lists ("0-3,7"): before it moves into the
/// container's cgroup, and from then on.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct CpuAffinity {
    pub initial: String,
    #[serde(rename = "final")]
    pub last: String,
}
