//! Limits of the container's cgroup.

use super::devices;
use crate::error::ContainerError;
use crate::options::Limits;
use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder,
};

/// Length of a scheduling period in microseconds (the kernel's default).
const CPU_PERIOD_US: u64 = 100_000;
/// Smallest memory limit: below it no runtime can start a process (docker's figure).
const MIN_MEMORY_BYTES: u64 = 6 << 20;
/// Smallest share of a processor in thousandths: the kernel's smallest quota is 1 ms.
const MIN_CPU_MILLIS: u64 = 10;

/// The `linux.resources` of the spec.
pub fn resources(limits: &Limits, privileged: bool) -> LinuxResources {
    let mut builder = LinuxResourcesBuilder::default().devices(devices::rules(privileged));
    if let Some(bytes) = limits.memory_bytes {
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        let memory = LinuxMemoryBuilder::default().limit(limit).build();
        builder = builder.memory(memory.expect("every field has a default"));
    }
    if let Some(millis) = limits.cpu_millis {
        let quota = i64::try_from(millis.saturating_mul(CPU_PERIOD_US / 1000)).unwrap_or(i64::MAX);
        let cpu = LinuxCpuBuilder::default()
            .period(CPU_PERIOD_US)
            .quota(quota)
            .build();
        builder = builder.cpu(cpu.expect("every field has a default"));
    }
    if let Some(pids) = limits.pids {
        let limit = i64::try_from(pids).unwrap_or(i64::MAX);
        let pids = LinuxPidsBuilder::default().limit(limit).build();
        builder = builder.pids(pids.expect("every field has a default"));
    }
    builder.build().expect("every field has a default")
}

/// Refuses limits that no container can live under, or that the host cannot give.
pub fn check(limits: &Limits, host_cpus: usize) -> Result<(), ContainerError> {
    if let Some(bytes) = limits
        .memory_bytes
        .filter(|bytes| *bytes < MIN_MEMORY_BYTES)
    {
        let reason = format!("the least is {} MiB", MIN_MEMORY_BYTES >> 20);
        return Err(ContainerError::option("memory", &bytes.to_string(), reason));
    }
    if let Some(millis) = limits.cpu_millis {
        let most = u64::try_from(host_cpus)
            .unwrap_or(u64::MAX)
            .saturating_mul(1000);
        if !(MIN_CPU_MILLIS..=most).contains(&millis) {
            let value = format!("{}.{:03}", millis / 1000, millis % 1000);
            let reason = format!("this host can give from 0.01 to {host_cpus}");
            return Err(ContainerError::option("cpus", &value, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_kernels_units() {
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            cpu_millis: Some(1500),
            pids: Some(20),
        };
        let resources = resources(&limits, false);
        assert_eq!(resources.memory().unwrap().limit(), Some(64 << 20));
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        assert_eq!(resources.pids().unwrap().limit(), 20);
    }

    #[test]
    fn without_limits_only_devices_are_ruled() {
        let resources = resources(&Limits::default(), false);
        assert!(resources.memory().is_none() && resources.cpu().is_none());
        assert!(resources.pids().is_none() && resources.devices().is_some());
    }

    #[test]
    fn impossible_limits() {
        let memory = |bytes| Limits {
            memory_bytes: Some(bytes),
            ..Limits::default()
        };
        let cpu = |millis| Limits {
            cpu_millis: Some(millis),
            ..Limits::default()
        };
        assert!(check(&memory(1 << 20), 2).is_err());
        assert!(check(&memory(6 << 20), 2).is_ok());
        assert!(check(&cpu(0), 2).is_err());
        assert!(check(&cpu(2000), 2).is_ok());
        assert!(check(&cpu(2001), 2).is_err());
    }
}
