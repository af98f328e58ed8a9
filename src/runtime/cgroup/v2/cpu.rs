//! The cpu and cpuset controllers.

use std::path::Path;

use crate::cgroup::files;
use crate::cgroup::v2::absent;
use crate::error::Result;
use crate::spec::Cpu;

/// The kernel's period where none is set, in microseconds.
const PERIOD: &str = "100000";

/// Writes the limits.
pub fn limit(path: &Path, cpu: &Cpu) -> Result<()> {
    if cpu.realtime_runtime.is_some_and(|value| value != 0) {
        return Err(absent("cpu.realtimeRuntime"));
    }
    if cpu.realtime_period.is_some_and(|value| value != 0) {
        return Err(absent("cpu.realtimePeriod"));
    }
    let weight = cpu.shares.filter(|&shares| shares != 0);
    let weight = weight.map(|shares| weight_of_shares(shares).to_string());
    let shares = ("shares", "cpu.weight", weight);
    let idle = ("idle", "cpu.idle", cpu.idle.map(|value| value.to_string()));
    // An idle cgroup has no weight: it goes in before it is idle, or once it is not any more.
    let (first, second) = if cpu.idle == Some(1) {
        (shares, idle)
    } else {
        (idle, shares)
    };
    for (field, name, value) in [first, second] {
        if let Some(value) = value {
            let field = format!("linux.resources.cpu.{field}");
            files::write_limit(path, &field, name, &value)?;
        }
    }
    limit_bandwidth(path, cpu)?;
    for (field, name, value) in [
        ("linux.resources.cpu.cpus", "cpuset.cpus", &cpu.cpus),
        ("linux.resources.cpu.mems", "cpuset.mems", &cpu.mems),
    ] {
        if !value.is_empty() {
            files::write_limit(path, field, name, value)?;
        }
    }
    Ok(())
}

/// Quota and period share a file; of the two the one that is not given stays. A burst may be
/// possible only before or only after the quota changes.
fn limit_bandwidth(path: &Path, cpu: &Cpu) -> Result<()> {
    let field = "linux.resources.cpu.burst";
    let mut burst = cpu.burst.map(|burst| burst.to_string());
    if let Some(value) = &burst {
        match files::write_raw(path, "cpu.max.burst", value) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {}
            Err(_) => return files::write_limit(path, field, "cpu.max.burst", value),
            Ok(()) => burst = None,
        }
    }
    let quota = cpu.quota.filter(|&quota| quota != 0);
    let period = cpu.period.filter(|&period| period != 0);
    if quota.is_some() || period.is_some() {
        let now = files::read(path, "cpu.max").unwrap_or_default();
        let mut now = now.split(' ').filter(|word| !word.is_empty());
        let quota_now = now.next().unwrap_or("max").to_owned();
        let period_now = now.next().unwrap_or(PERIOD).to_owned();
        let value = format!(
            "{} {}",
            quota.map_or(quota_now, files::or_max),
            period.map_or(period_now, |period| period.to_string())
        );
        let field = if quota.is_some() {
            "linux.resources.cpu.quota"
        } else {
            "linux.resources.cpu.period"
        };
        files::write_limit(path, field, "cpu.max", &value)?;
    }
    match burst {
        Some(value) => files::write_limit(path, field, "cpu.max.burst", &value),
        None => Ok(()),
    }
}

/// Maps version 1's shares, 2..=262144, onto the weights 1..=10000, linearly.
pub fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Tree;

    fn set(tree: &Tree, cpu: Cpu) {
        limit(tree.cgroup.unified.as_deref().unwrap(), &cpu).unwrap();
    }

    #[test]
    fn shares_and_weights_meet_at_both_ends() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(1024), 39);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
    }

    #[test]
    fn every_limit_goes_to_its_file() {
        let tree = Tree::v2();
        let names = [
            "cpu.weight",
            "cpu.idle",
            "cpu.max.burst",
            "cpu.max",
            "cpuset.cpus",
            "cpuset.mems",
        ];
        tree.touch("unified", &names);
        let cpu = Cpu {
            shares: Some(1024),
            idle: Some(0),
            burst: Some(100),
            quota: Some(5000),
            cpus: "0-1".into(),
            mems: "0".into(),
            ..Cpu::default()
        };
        set(&tree, cpu);
        let values = names.map(|name| tree.get("unified", name));
        assert_eq!(values, ["39", "0", "100", "5000 100000", "0-1", "0"]);
    }

    #[test]
    fn a_quota_keeps_the_period_and_a_period_the_quota() {
        let tree = Tree::v2();
        tree.put("unified", "cpu.max", "max 50000\n");
        let quota = Cpu {
            quota: Some(20_000),
            ..Cpu::default()
        };
        set(&tree, quota);
        assert!(tree.get("unified", "cpu.max").starts_with("20000 50000"));
        tree.put("unified", "cpu.max", "7000 50000\n");
        let period = Cpu {
            period: Some(90_000),
            ..Cpu::default()
        };
        set(&tree, period);
        assert!(tree.get("unified", "cpu.max").starts_with("7000 90000"));
    }
}
