//! Limits in version 1 hierarchies; the files are those of the kernel's
//! `Documentation/admin-guide/cgroup-v1`.

use std::path::Path;

use crate::cgroup::{Cgroup, files};
use crate::error::{Context, Error, Result};
use crate::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

/// Fills the empty cpuset of `path` and of those above it from their parents: a process cannot
/// enter a cgroup without processors and memory nodes.
///
/// # Errors
/// [`Error::Os`] naming the file.
pub fn inherit_cpuset(mount: &Path, path: &Path) -> Result<()> {
    if path == mount {
        return Ok(());
    }
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if files::read(path, name)?.is_empty() {
            if files::read(parent, name)?.is_empty() {
                inherit_cpuset(mount, parent)?;
            }
            files::write(path, name, &files::read(parent, name)?)?;
        }
    }
    Ok(())
}

/// Writes all limits but the devices'.
///
/// # Errors
/// [`Error::Os`] naming the file; [`Error::Unsupported`] for a limit whose controller is not
/// mounted.
pub fn limit(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    if let Some(memory) = &resources.memory {
        limit_memory(cgroup, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        limit_cpu(cgroup, cpu)?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        let value = if limit > 0 {
            limit.to_string()
        } else {
            "max".to_owned()
        };
        write(cgroup, "pids", "pids.max", &value)?;
    }
    if let Some(block_io) = &resources.block_io {
        limit_block_io(cgroup, block_io)?;
    }
    for hugepages in &resources.hugepage_limits {
        check_page_size(&hugepages.page_size)?;
        let name = format!("hugetlb.{}.limit_in_bytes", hugepages.page_size);
        write(cgroup, "hugetlb", &name, &hugepages.limit.to_string())?;
    }
    if let Some(class) = resources
        .network
        .as_ref()
        .and_then(|network| network.class_id)
    {
        write(cgroup, "net_cls", "net_cls.classid", &class.to_string())?;
    }
    Ok(())
}

/// A page size becomes part of a file's name.
pub(crate) fn check_page_size(size: &str) -> Result<()> {
    if size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Error::invalid(
        "linux.resources.hugepageLimits.pageSize",
        size,
    ))
}

fn directory<'a>(cgroup: &'a Cgroup, controller: &str, name: &str) -> Result<&'a Path> {
    cgroup.hierarchy(controller).ok_or_else(|| {
        let reason = format!("the {controller} controller is not mounted");
        Error::unsupported(format!("linux.resources ({name})"), reason)
    })
}

fn write(cgroup: &Cgroup, controller: &str, name: &str, value: &str) -> Result<()> {
    files::write(directory(cgroup, controller, name)?, name, value)
}

/// `kernel` is passed over: the kernel has no such limit any more and the specification lets a
/// runtime ignore it.
fn limit_memory(cgroup: &Cgroup, memory: &Memory) -> Result<()> {
    let limit = memory.limit.filter(|&limit| limit != 0);
    let swap = memory.swap.filter(|&swap| swap != 0);
    const LIMIT: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    match (limit, swap) {
        (Some(limit), Some(swap)) => {
            // The sum with swap may never be below the limit: which of the two goes first
            // depends on the limits that are there now.
            let path = directory(cgroup, "memory", LIMIT)?;
            if files::write_raw(path, LIMIT, &limit.to_string()).is_err() {
                files::write(path, SWAP, &swap.to_string())?;
                files::write(path, LIMIT, &limit.to_string())?;
            } else {
                files::write(path, SWAP, &swap.to_string())?;
            }
        }
        (Some(limit), None) => write(cgroup, "memory", LIMIT, &limit.to_string())?,
        (None, Some(swap)) => write(cgroup, "memory", SWAP, &swap.to_string())?,
        (None, None) => {}
    }
    if let Some(reservation) = memory.reservation.filter(|&value| value != 0) {
        write(
            cgroup,
            "memory",
            "memory.soft_limit_in_bytes",
            &reservation.to_string(),
        )?;
    }
    if let Some(tcp) = memory.kernel_tcp.filter(|&value| value != 0) {
        write(
            cgroup,
            "memory",
            "memory.kmem.tcp.limit_in_bytes",
            &tcp.to_string(),
        )?;
    }
    if let Some(swappiness) = memory.swappiness {
        write(
            cgroup,
            "memory",
            "memory.swappiness",
            &swappiness.to_string(),
        )?;
    }
    if memory.disable_oom_killer == Some(true) {
        write(cgroup, "memory", "memory.oom_control", "1")?;
    }
    Ok(())
}

fn limit_cpu(cgroup: &Cgroup, cpu: &Cpu) -> Result<()> {
    let numbers = [
        (
            "cpu.shares",
            cpu.shares
                .filter(|&value| value != 0)
                .map(|value| value.to_string()),
        ),
        (
            "cpu.cfs_period_us",
            cpu.period
                .filter(|&value| value != 0)
                .map(|v| v.to_string()),
        ),
        (
            "cpu.cfs_quota_us",
            cpu.quota.filter(|&value| value != 0).map(|v| v.to_string()),
        ),
        ("cpu.cfs_burst_us", cpu.burst.map(|value| value.to_string())),
        (
            "cpu.rt_period_us",
            cpu.realtime_period
                .filter(|&v| v != 0)
                .map(|v| v.to_string()),
        ),
        (
            "cpu.rt_runtime_us",
            cpu.realtime_runtime
                .filter(|&v| v != 0)
                .map(|v| v.to_string()),
        ),
        ("cpu.idle", cpu.idle.map(|value| value.to_string())),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            write(cgroup, "cpu", name, &value)?;
        }
    }
    for (name, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !value.is_empty() {
            write(cgroup, "cpuset", name, value)?;
        }
    }
    Ok(())
}

fn limit_block_io(cgroup: &Cgroup, block_io: &BlockIo) -> Result<()> {
    if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
        let path = directory(cgroup, "blkio", "blkio.weight")?;
        // The file's name depends on the I/O scheduler that the kernel was built with.
        let name = ["blkio.weight", "blkio.bfq.weight"]
            .into_iter()
            .find(|name| path.join(name).exists())
            .ok_or_else(|| {
                Error::unsupported(
                    "linux.resources.blockIO.weight",
                    "the kernel has no weights",
                )
            })?;
        files::write(path, name, &weight.to_string())?;
    }
    if let Some(weight) = block_io.leaf_weight.filter(|&weight| weight != 0) {
        write(cgroup, "blkio", "blkio.leaf_weight", &weight.to_string())?;
    }
    let throttles: [(&str, &[ThrottleDevice]); 4] = [
        (
            "blkio.throttle.read_bps_device",
            &block_io.throttle_read_bps_device,
        ),
        (
            "blkio.throttle.write_bps_device",
            &block_io.throttle_write_bps_device,
        ),
        (
            "blkio.throttle.read_iops_device",
            &block_io.throttle_read_iops_device,
        ),
        (
            "blkio.throttle.write_iops_device",
            &block_io.throttle_write_iops_device,
        ),
    ];
    for (name, devices) in throttles {
        for device in devices {
            let value = format!("{}:{} {}", device.major, device.minor, device.rate);
            write(cgroup, "blkio", name, &value)?;
        }
    }
    Ok(())
}

/// Freezing is asked for through `freezer.state`; reading it back tells when it is done.
///
/// # Errors
/// [`Error::Os`] naming the file.
pub fn freezer_state(path: &Path) -> Result<String> {
    std::fs::read_to_string(path.join("freezer.state"))
        .map(|text| text.trim_end().to_owned())
        .doing(|| format!("read {}", path.join("freezer.state").display()))
}
