//! The cpu and cpuset controllers.

use std::path::Path;

use crate::cgroup::v1::{directory, write};
use crate::cgroup::{Cgroup, files};
use crate::error::Result;
use crate::spec::Cpu;

/// A value with the field that it comes from and the file that it goes to.
type Setting = (&'static str, &'static str, String);

/// Writes the limits.
pub fn limit(cgroup: &Cgroup, cpu: &Cpu) -> Result<()> {
    let settings = settings(cpu);
    if let Some((field, ..)) = settings.first() {
        let path = directory(cgroup, &full(field), "cpu")?;
        write_all(path, settings)?;
    }
    for (field, name, value) in [
        ("linux.resources.cpu.cpus", "cpuset.cpus", &cpu.cpus),
        ("linux.resources.cpu.mems", "cpuset.mems", &cpu.mems),
    ] {
        if !value.is_empty() {
            write(cgroup, field, "cpuset", name, value)?;
        }
    }
    Ok(())
}

fn full(field: &str) -> String {
    format!("linux.resources.cpu.{field}")
}

fn settings(cpu: &Cpu) -> Vec<Setting> {
    let text = |value: Option<i64>| value.filter(|&value| value != 0).map(|v| v.to_string());
    let unsigned = |value: Option<u64>| value.filter(|&value| value != 0).map(|v| v.to_string());
    let shares = ("shares", "cpu.shares", unsigned(cpu.shares));
    let idle = ("idle", "cpu.idle", cpu.idle.map(|value| value.to_string()));
    // An idle cgroup has no shares: they go in before it is idle, or once it is not any more.
    let (first, second) = if cpu.idle == Some(1) {
        (shares, idle)
    } else {
        (idle, shares)
    };
    let burst = cpu.burst.map(|value| value.to_string());
    let all = [
        first,
        second,
        (
            "realtimePeriod",
            "cpu.rt_period_us",
            unsigned(cpu.realtime_period),
        ),
        (
            "realtimeRuntime",
            "cpu.rt_runtime_us",
            text(cpu.realtime_runtime),
        ),
        ("period", "cpu.cfs_period_us", unsigned(cpu.period)),
        ("burst", "cpu.cfs_burst_us", burst),
        ("quota", "cpu.cfs_quota_us", text(cpu.quota)),
    ];
    all.into_iter()
        .filter_map(|(field, name, value)| Some((field, name, value?)))
        .collect()
}

/// A value may be possible only once another one is there (a burst beyond the old quota, a
/// period too short for it): what the kernel refuses is written again after all the others.
fn write_all(path: &Path, settings: Vec<Setting>) -> Result<()> {
    let mut refused = Vec::new();
    for (field, name, value) in settings {
        match files::write_raw(path, name, &value) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                refused.push((field, name, value));
            }
            Err(_) => return files::write_limit(path, &full(field), name, &value),
        }
    }
    for (field, name, value) in refused {
        files::write_limit(path, &full(field), name, &value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Tree;

    #[test]
    fn every_limit_goes_to_its_file() {
        let tree = Tree::v1(&["cpu", "cpuset"]);
        let names = [
            "cpu.shares",
            "cpu.idle",
            "cpu.cfs_period_us",
            "cpu.cfs_quota_us",
            "cpu.cfs_burst_us",
            "cpu.rt_period_us",
            "cpu.rt_runtime_us",
        ];
        tree.touch("cpu", &names);
        tree.touch("cpuset", &["cpuset.cpus", "cpuset.mems"]);
        let cpu = Cpu {
            shares: Some(512),
            idle: Some(0),
            period: Some(50_000),
            quota: Some(-1),
            burst: Some(0),
            realtime_period: Some(1_000_000),
            realtime_runtime: Some(5_000),
            cpus: "0-1".into(),
            mems: "0".into(),
        };
        limit(&tree.cgroup, &cpu).unwrap();
        let values = names.map(|name| tree.get("cpu", name));
        assert_eq!(values, ["512", "0", "50000", "-1", "0", "1000000", "5000"]);
        assert_eq!(tree.get("cpuset", "cpuset.cpus"), "0-1");
        assert_eq!(tree.get("cpuset", "cpuset.mems"), "0");
    }

    #[test]
    fn shares_come_before_idleness_and_after_its_end() {
        let order = |idle| {
            let cpu = Cpu {
                shares: Some(512),
                idle: Some(idle),
                ..Cpu::default()
            };
            settings(&cpu)
                .into_iter()
                .map(|(field, ..)| field)
                .collect::<Vec<_>>()
        };
        assert_eq!(order(1), ["shares", "idle"]);
        assert_eq!(order(0), ["idle", "shares"]);
    }
}
