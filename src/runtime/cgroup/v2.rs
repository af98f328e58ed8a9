//! Limits in the cgroup2 tree; `Documentation/admin-guide/cgroup-v2.rst`.

use std::path::Path;

use crate::cgroup::{files, v1};
use crate::error::{Error, Result};
use crate::spec::{BlockIo, Cpu, Memory, Resources};

/// Hands every controller of `mount` down to `path`. One that cannot be handed down is missed
/// only when a limit needs it, and then the limit's file says so.
pub fn enable_controllers(mount: &Path, path: &Path) {
    let Ok(controllers) = files::read(mount, "cgroup.controllers") else {
        return;
    };
    let mut above: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|ancestor| ancestor.starts_with(mount))
        .collect();
    above.reverse();
    for directory in above {
        let enabled = files::read(directory, "cgroup.subtree_control").unwrap_or_default();
        for controller in controllers.split(' ').filter(|name| !name.is_empty()) {
            if !enabled.split(' ').any(|name| name == controller) {
                let request = format!("+{controller}");
                let _ = files::write_raw(directory, "cgroup.subtree_control", &request);
            }
        }
    }
}

/// Writes all limits but the devices'.
///
/// # Errors
/// [`Error::Os`] naming the file.
pub fn limit(path: &Path, resources: &Resources) -> Result<()> {
    if let Some(memory) = &resources.memory {
        limit_memory(path, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        limit_cpu(path, cpu)?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        files::write(
            path,
            "pids.max",
            &or_max(if limit > 0 { limit } else { -1 }),
        )?;
    }
    if let Some(block_io) = &resources.block_io {
        limit_io(path, block_io)?;
    }
    for hugepages in &resources.hugepage_limits {
        v1::check_page_size(&hugepages.page_size)?;
        let name = format!("hugetlb.{}.max", hugepages.page_size);
        files::write(path, &name, &hugepages.limit.to_string())?;
    }
    if resources
        .network
        .as_ref()
        .is_some_and(|network| network.class_id.is_some())
    {
        return Err(Error::unsupported(
            "linux.resources.network",
            "cgroup2 has no net_cls",
        ));
    }
    for (name, value) in &resources.unified {
        if name.contains('/') || !name.contains('.') {
            return Err(Error::invalid("linux.resources.unified", name.clone()));
        }
        files::write(path, name, value)?;
    }
    Ok(())
}

fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

fn limit_memory(path: &Path, memory: &Memory) -> Result<()> {
    if memory.kernel_tcp.is_some_and(|value| value != 0) {
        return Err(Error::unsupported(
            "linux.resources.memory.kernelTCP",
            "not in cgroup2",
        ));
    }
    if memory.swappiness.is_some() {
        return Err(Error::unsupported(
            "linux.resources.memory.swappiness",
            "not in cgroup2",
        ));
    }
    if memory.disable_oom_killer == Some(true) {
        let field = "linux.resources.memory.disableOOMKiller";
        return Err(Error::unsupported(field, "not in cgroup2"));
    }
    if let Some(swap) = memory.swap.filter(|&swap| swap != 0) {
        files::write(
            path,
            "memory.swap.max",
            &or_max(swap_alone(memory.limit, swap)?),
        )?;
    }
    if let Some(limit) = memory.limit.filter(|&limit| limit != 0) {
        files::write(path, "memory.max", &or_max(limit))?;
    }
    if let Some(low) = memory.reservation.filter(|&value| value != 0) {
        files::write(path, "memory.low", &or_max(low))?;
    }
    Ok(())
}

/// The specification counts memory and swap together, cgroup2 swap alone.
fn swap_alone(limit: Option<i64>, both: i64) -> Result<i64> {
    if both < 0 {
        return Ok(-1);
    }
    match limit {
        Some(limit) if limit > 0 && both >= limit => Ok(both - limit),
        _ => Err(Error::invalid(
            "linux.resources.memory.swap",
            "below or without the limit",
        )),
    }
}

/// Maps version 1's shares, 2..=262144, onto the weights 1..=10000, linearly.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn limit_cpu(path: &Path, cpu: &Cpu) -> Result<()> {
    if cpu.realtime_period.is_some_and(|v| v != 0) || cpu.realtime_runtime.is_some_and(|v| v != 0) {
        return Err(Error::unsupported(
            "linux.resources.cpu.realtimeRuntime",
            "not in cgroup2",
        ));
    }
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        files::write(path, "cpu.weight", &weight_of_shares(shares).to_string())?;
    }
    let quota = cpu.quota.filter(|&quota| quota != 0);
    let period = cpu.period.filter(|&period| period != 0);
    if quota.is_some() || period.is_some() {
        // The kernel's default period.
        let period = period.unwrap_or(100_000);
        files::write(
            path,
            "cpu.max",
            &format!("{} {period}", or_max(quota.unwrap_or(-1))),
        )?;
    }
    if let Some(burst) = cpu.burst {
        files::write(path, "cpu.max.burst", &burst.to_string())?;
    }
    if let Some(idle) = cpu.idle {
        files::write(path, "cpu.idle", &idle.to_string())?;
    }
    for (name, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !value.is_empty() {
            files::write(path, name, value)?;
        }
    }
    Ok(())
}

fn limit_io(path: &Path, block_io: &BlockIo) -> Result<()> {
    if block_io.leaf_weight.is_some_and(|weight| weight != 0) {
        return Err(Error::unsupported(
            "linux.resources.blockIO.leafWeight",
            "not in cgroup2",
        ));
    }
    if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
        if path.join("io.bfq.weight").exists() {
            files::write(path, "io.bfq.weight", &weight.to_string())?;
        } else {
            // 10..=1000 onto 1..=10000.
            let weight = 1 + (u64::from(weight).clamp(10, 1000) - 10) * 9_999 / 990;
            files::write(path, "io.weight", &weight.to_string())?;
        }
    }
    let throttles = [
        ("rbps", &block_io.throttle_read_bps_device),
        ("wbps", &block_io.throttle_write_bps_device),
        ("riops", &block_io.throttle_read_iops_device),
        ("wiops", &block_io.throttle_write_iops_device),
    ];
    for (key, devices) in throttles {
        for device in devices {
            let value = format!("{}:{} {key}={}", device.major, device.minor, device.rate);
            files::write(path, "io.max", &value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_weights_meet_at_both_ends() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(1024), 39);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
    }

    #[test]
    fn swap_is_what_is_beyond_memory() {
        assert_eq!(swap_alone(Some(100), 150).unwrap(), 50);
        assert_eq!(swap_alone(Some(100), -1).unwrap(), -1);
        assert!(swap_alone(Some(100), 50).is_err());
        assert!(swap_alone(None, 50).is_err());
    }
}
