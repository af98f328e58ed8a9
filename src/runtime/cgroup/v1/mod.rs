//! Limits in version 1 hierarchies; the files are those of the kernel's
//! `Documentation/admin-guide/cgroup-v1`.

mod block_io;
mod cpu;
mod memory;

use std::path::Path;

use crate::cgroup::{Cgroup, files, v2};
use crate::error::{Context, Result};
use crate::spec::{Network, Resources};

/// Fills the empty cpuset of `path` and of those above it from their parents: a process cannot
/// enter a cgroup without processors and memory nodes.
///
/// # Errors
/// [`crate::error::Error::Os`] naming the file.
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
/// [`crate::error::Error::Os`] naming the file; [`crate::error::Error::Unsupported`] for a limit whose controller is not
/// mounted.
pub fn limit(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    if let Some(memory) = &resources.memory {
        memory::limit(cgroup, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu::limit(cgroup, cpu)?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit)
        && limit != 0
    {
        let field = "linux.resources.pids.limit";
        write(cgroup, field, "pids", "pids.max", &files::or_max(limit))?;
    }
    if let Some(block_io) = &resources.block_io {
        block_io::limit(cgroup, block_io)?;
    }
    if let Some(network) = &resources.network {
        limit_network(cgroup, network)?;
    }
    limit_hugepages(cgroup, resources)?;
    limit_rdma(cgroup, resources)
}

/// The container's directory of `controller`, which `field` needs.
fn directory<'a>(cgroup: &'a Cgroup, field: &str, controller: &str) -> Result<&'a Path> {
    cgroup
        .hierarchy(controller)
        .ok_or_else(|| cgroup.missing(field, controller))
}

fn write(cgroup: &Cgroup, field: &str, controller: &str, name: &str, value: &str) -> Result<()> {
    let path = directory(cgroup, field, controller)?;
    files::write_limit(path, field, name, value)
}

fn limit_network(cgroup: &Cgroup, network: &Network) -> Result<()> {
    if let Some(class) = network.class_id {
        let (field, name) = ("linux.resources.network.classID", "net_cls.classid");
        write(cgroup, field, "net_cls", name, &class.to_string())?;
    }
    for entry in &network.priorities {
        let (field, name) = ("linux.resources.network.priorities", "net_prio.ifpriomap");
        let value = format!("{} {}", entry.name, entry.priority);
        write(cgroup, field, "net_prio", name, &value)?;
    }
    Ok(())
}

/// Beside hierarchies of version 1 the controller may live in the cgroup2 tree.
fn unified<'a>(cgroup: &'a Cgroup, controller: &str) -> Option<&'a Path> {
    let (mount, path) = (cgroup.unified_mount.as_ref()?, cgroup.unified.as_ref()?);
    v2::hand_down(mount, path, |name| name == controller);
    let controllers = files::read(path, "cgroup.controllers").unwrap_or_default();
    let found = controllers.split(' ').any(|name| name == controller);
    found.then_some(path.as_path())
}

fn limit_hugepages(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    if resources.hugepage_limits.is_empty() {
        return Ok(());
    }
    if cgroup.hierarchy("hugetlb").is_none()
        && let Some(path) = unified(cgroup, "hugetlb")
    {
        return v2::limit_hugepages(path, resources);
    }
    let field = "linux.resources.hugepageLimits";
    let path = directory(cgroup, field, "hugetlb")?;
    for limit in &resources.hugepage_limits {
        files::write_hugepages(path, limit, "limit_in_bytes")?;
    }
    Ok(())
}

fn limit_rdma(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    if resources.rdma.is_empty() {
        return Ok(());
    }
    let path = match cgroup.hierarchy("rdma") {
        Some(path) => path,
        None => {
            unified(cgroup, "rdma").ok_or_else(|| cgroup.missing("linux.resources.rdma", "rdma"))?
        }
    };
    files::write_rdma(path, &resources.rdma)
}

/// Freezing is asked for through `freezer.state`; reading it back tells when it is done.
///
/// # Errors
/// [`crate::error::Error::Os`] naming the file.
pub fn freezer_state(path: &Path) -> Result<String> {
    std::fs::read_to_string(path.join("freezer.state"))
        .map(|text| text.trim_end().to_owned())
        .doing(|| format!("read {}", path.join("freezer.state").display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Tree;
    use serde_json::json;

    fn resources(value: serde_json::Value) -> Resources {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pids_network_hugepages_and_rdma_are_written() {
        let tree = Tree::v1(&["pids", "net_cls", "net_prio", "hugetlb", "rdma"]);
        tree.touch("pids", &["pids.max"]);
        tree.touch("net_cls", &["net_cls.classid"]);
        tree.touch("net_prio", &["net_prio.ifpriomap"]);
        tree.touch(
            "hugetlb",
            &[
                "hugetlb.2MB.limit_in_bytes",
                "hugetlb.2MB.rsvd.limit_in_bytes",
                "hugetlb.1GB.limit_in_bytes",
            ],
        );
        tree.touch("rdma", &["rdma.max"]);
        let wanted = resources(json!({
            "pids": {"limit": -1},
            "network": {"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 5}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304},
                               {"pageSize": "1GB", "limit": 0}],
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000}},
        }));
        limit(&tree.cgroup, &wanted).unwrap();
        let get = |hierarchy, name| tree.get(hierarchy, name);
        assert_eq!(get("pids", "pids.max"), "max");
        assert_eq!(get("net_cls", "net_cls.classid"), "1048577");
        assert_eq!(get("net_prio", "net_prio.ifpriomap"), "lo 5");
        assert_eq!(get("hugetlb", "hugetlb.2MB.limit_in_bytes"), "4194304");
        assert_eq!(get("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes"), "4194304");
        assert_eq!(get("hugetlb", "hugetlb.1GB.limit_in_bytes"), "0");
        let rdma = get("rdma", "rdma.max");
        assert_eq!(rdma, "mlx5_1 hca_handle=3 hca_object=10000");
    }

    #[test]
    fn a_limit_whose_controller_is_missing_is_named() {
        let tree = Tree::v1(&["freezer"]);
        for (value, field) in [
            (json!({"pids": {"limit": 5}}), "pids.limit"),
            (json!({"memory": {"limit": 5}}), "memory.limit"),
            (json!({"memory": {"swap": 5}}), "memory.swap"),
            (json!({"memory": {"reservation": 5}}), "memory.reservation"),
            (json!({"memory": {"kernelTCP": 5}}), "memory.kernelTCP"),
            (json!({"memory": {"swappiness": 5}}), "memory.swappiness"),
            (
                json!({"memory": {"disableOOMKiller": true}}),
                "memory.disableOOMKiller",
            ),
            (
                json!({"memory": {"useHierarchy": true}}),
                "memory.useHierarchy",
            ),
            (json!({"cpu": {"shares": 5}}), "cpu.shares"),
            (json!({"cpu": {"quota": 5}}), "cpu.quota"),
            (json!({"cpu": {"period": 5}}), "cpu.period"),
            (json!({"cpu": {"burst": 5}}), "cpu.burst"),
            (json!({"cpu": {"idle": 1}}), "cpu.idle"),
            (
                json!({"cpu": {"realtimeRuntime": 5}}),
                "cpu.realtimeRuntime",
            ),
            (json!({"cpu": {"realtimePeriod": 5}}), "cpu.realtimePeriod"),
            (json!({"cpu": {"cpus": "0"}}), "cpu.cpus"),
            (json!({"cpu": {"mems": "0"}}), "cpu.mems"),
            (json!({"blockIO": {"weight": 10}}), "blockIO.weight"),
            (json!({"blockIO": {"leafWeight": 10}}), "blockIO.leafWeight"),
            (
                json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}),
                "blockIO.weightDevice",
            ),
            (
                json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}),
                "blockIO.throttleReadBpsDevice",
            ),
            (
                json!({"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 1}]}}),
                "blockIO.throttleWriteIOPSDevice",
            ),
            (
                json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
                "hugepageLimits",
            ),
            (json!({"network": {"classID": 1}}), "network.classID"),
            (
                json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
                "network.priorities",
            ),
            (json!({"rdma": {"mlx": {"hcaHandles": 1}}}), "rdma"),
            (json!({"unified": {"memory.high": "1"}}), "unified"),
        ] {
            let words = tree
                .cgroup
                .limit(&resources(value))
                .unwrap_err()
                .to_string();
            assert!(
                words.contains(&format!("linux.resources.{field}")),
                "{field}: {words}"
            );
        }
    }
}
