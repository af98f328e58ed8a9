//! The runtime specification's `config.json`, as this runtime reads it. Field meanings are those
//! of <https://github.com/opencontainers/runtime-spec>; unknown properties are passed over, as
//! the specification asks, known ones are all here so that none is passed over by mistake.

mod check;
mod hooks;
mod linux;
mod load;
mod process;
mod resources;
mod seccomp;

pub use check::{check, check_process};
pub use hooks::{Hook, Hooks};
pub use linux::{
    Device, IdMapping, IntelRdt, Linux, MemoryPolicy, Namespace, NamespaceKind, NetDevice,
    Personality,
};
pub use load::{load, parse, read_limited};
pub use process::{
    Capabilities, ConsoleSize, CpuAffinity, IoPriority, Process, Rlimit, Scheduler, User,
};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Network, Pids, Rdma, Resources, ThrottleDevice,
};
pub use seccomp::{Argument, Seccomp, Syscalls};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The whole document.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Spec {
    pub oci_version: String,
    pub process: Option<Process>,
    pub root: Option<Root>,
    pub hostname: String,
    pub domainname: String,
    pub mounts: Vec<Mount>,
    pub hooks: Hooks,
    pub annotations: BTreeMap<String, String>,
    pub linux: Option<Linux>,
    pub solaris: Option<serde_json::Value>,
    pub windows: Option<serde_json::Value>,
    pub vm: Option<serde_json::Value>,
    pub zos: Option<serde_json::Value>,
}

/// The container's root filesystem.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Root {
    pub path: String,
    pub readonly: bool,
}

/// One mount inside the container.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Mount {
    pub destination: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub source: String,
    pub options: Vec<String>,
    pub uid_mappings: Vec<IdMapping>,
    pub gid_mappings: Vec<IdMapping>,
}
