//! What a container uses, in the shape that `events` prints and that callers of runc parse.

mod v1;
mod v2;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::cgroup::Cgroup;

/// All that is counted. What no controller counts is 0 or absent.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct Statistics {
    pub cpu: Cpu,
    pub cpuset: Cpuset,
    pub memory: Memory,
    pub pids: Pids,
    pub blkio: BlockIo,
    pub hugetlb: BTreeMap<String, Hugepages>,
    pub intel_rdt: Rdt,
    /// Interfaces that the runtime itself has made: none.
    pub network_interfaces: Option<Vec<()>>,
}

/// Processor time in nanoseconds.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct Cpu {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Nanoseconds.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct CpuUsage {
    pub total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

/// How often and how long (nanoseconds) the quota held processes back.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

/// Where processes may run, and the flags of version 1.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Bytes; `swap` is memory and swap together.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct Memory {
    pub cache: u64,
    pub usage: MemoryEntry,
    pub swap: MemoryEntry,
    pub kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub event_count: BTreeMap<String, u64>,
}

/// Bytes, and how often the limit was hit.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct MemoryEntry {
    pub limit: u64,
    pub usage: u64,
    pub max: u64,
    pub failcnt: u64,
}

/// Tasks; a limit of 0 is none.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct Pids {
    pub current: u64,
    pub limit: u64,
}

/// Block I/O, of this cgroup and those below.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct BlockIo {
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One counter of one device.
#[derive(Debug, Eq, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct BlockIoEntry {
    pub major: u64,
    pub minor: u64,
    pub op: String,
    pub value: u64,
}

/// Bytes of huge pages of one size.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct Hugepages {
    pub usage: u64,
    pub max: u64,
    pub failcnt: u64,
}

/// What resctrl holds of the container.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct Rdt {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
}

/// Pressure stall information: some or all tasks waited.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct Pressure {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub some: Option<PressureLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<PressureLine>,
}

/// Averages in percent over seconds; the total in microseconds.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names are the document's")]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// Reads all counters.
#[must_use]
pub fn read(cgroup: &Cgroup) -> Statistics {
    let mut statistics = match &cgroup.unified {
        Some(path) if cgroup.is_unified() => v2::read(path),
        unified => {
            let mut statistics = v1::read(cgroup);
            if let Some(path) = unified.as_deref().filter(|_| statistics.hugetlb.is_empty()) {
                statistics.hugetlb = v2::hugepages(path);
            }
            statistics
        }
    };
    if let Some(group) = &cgroup.rdt {
        statistics.intel_rdt = Rdt {
            l3_cache_schema: group.shares("L3"),
            mem_bw_schema: group.shares("MB"),
        };
    }
    statistics
}

fn text(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap_or_default()
}

/// The number in a file; `max` is the largest, and what is not there 0.
fn number(directory: &Path, name: &str) -> u64 {
    match text(directory, name).trim() {
        "max" => u64::MAX,
        other => other.parse().unwrap_or(0),
    }
}

/// The lines `KEY NUMBER` of a file.
fn table(directory: &Path, name: &str) -> BTreeMap<String, u64> {
    let text = text(directory, name);
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// `0-2,5` as the numbers it stands for.
fn ranges(text: &str) -> Vec<u16> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            numbers.extend(first..=last);
        }
    }
    numbers
}

/// The sizes of huge pages that are counted in a directory.
fn page_sizes(directory: &Path, suffix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let size = |name: String| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    names.filter_map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_spelt_out() {
        assert_eq!(ranges("0-2,5\n"), [0, 1, 2, 5]);
        assert!(ranges("\n").is_empty());
        assert_eq!(ranges("3"), [3]);
    }
}
