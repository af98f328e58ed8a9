//! `linux`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::{Resources, Seccomp};

/// What only Linux has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Linux {
    pub uid_mappings: Vec<IdMapping>,
    pub gid_mappings: Vec<IdMapping>,
    pub sysctl: BTreeMap<String, String>,
    pub resources: Resources,
    pub cgroups_path: String,
    pub namespaces: Vec<Namespace>,
    pub devices: Vec<Device>,
    pub net_devices: BTreeMap<String, NetDevice>,
    pub seccomp: Option<Seccomp>,
    pub rootfs_propagation: String,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub mount_label: String,
    pub intel_rdt: Option<IntelRdt>,
    pub memory_policy: Option<MemoryPolicy>,
    pub personality: Option<Personality>,
    pub time_offsets: BTreeMap<String, TimeOffset>,
}

/// Shares of caches and memory bandwidth.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct IntelRdt {
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    pub schemata: Vec<String>,
    pub l3_cache_schema: String,
    pub mem_bw_schema: String,
    pub enable_monitoring: bool,
    /// Of the specification before 1.3, as is `enable_mbm`.
    #[serde(rename = "enableCMT")]
    pub enable_cmt: bool,
    #[serde(rename = "enableMBM")]
    pub enable_mbm: bool,
}

/// A network device that moves into the container.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct NetDevice {
    /// Its name there; empty keeps the name.
    pub name: String,
}

/// Where memory comes from, by the names of set_mempolicy(2).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct MemoryPolicy {
    pub mode: String,
    /// A list such as "0-1,3".
    pub nodes: String,
    pub flags: Vec<String>,
}

/// The execution domain.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Personality {
    pub domain: String,
    pub flags: Vec<String>,
}

/// A run of ids of the container and the host's ids that they stand for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct IdMapping {
    #[serde(rename = "containerID")]
    pub container_id: u32,
    #[serde(rename = "hostID")]
    pub host_id: u32,
    pub size: u32,
}

/// A namespace to make, or to join where a path is given.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    #[serde(default)]
    pub path: String,
}

/// Kinds of namespaces.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum NamespaceKind {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

impl NamespaceKind {
    /// The `CLONE_NEW*` bit.
    #[must_use]
    pub fn flag(self) -> u64 {
        match self {
            Self::Pid => sys::clone::flags::NEWPID,
            Self::Network => sys::clone::flags::NEWNET,
            Self::Mount => sys::clone::flags::NEWNS,
            Self::Ipc => sys::clone::flags::NEWIPC,
            Self::Uts => sys::clone::flags::NEWUTS,
            Self::User => sys::clone::flags::NEWUSER,
            Self::Cgroup => sys::clone::flags::NEWCGROUP,
            Self::Time => sys::clone::flags::NEWTIME,
        }
    }

    /// The name under `/proc/PID/ns`.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Mount => "mnt",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

/// A device node to make.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct Device {
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub major: u32,
    #[serde(default)]
    pub minor: u32,
    pub file_mode: Option<u32>,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
}

/// Offset of a clock of a time namespace.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub struct TimeOffset {
    pub secs: i64,
    pub nanosecs: u32,
}

impl Linux {
    /// The entry for `kind`.
    #[must_use]
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces
            .iter()
            .find(|namespace| namespace.kind == kind)
    }

    /// Whether a new namespace of `kind` is made.
    #[must_use]
    pub fn makes(&self, kind: NamespaceKind) -> bool {
        self.namespace(kind)
            .is_some_and(|namespace| namespace.path.is_empty())
    }
}
