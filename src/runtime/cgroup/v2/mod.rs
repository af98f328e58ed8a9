//! Limits in the cgroup2 tree; `Documentation/admin-guide/cgroup-v2.rst`.

mod cpu;
mod io;
mod memory;

pub use cpu::weight_of_shares;
pub use io::wide_weight;

use std::path::Path;

use crate::cgroup::files;
use crate::error::{Error, Result};
use crate::spec::Resources;

/// Hands the controllers of `mount` that are `wanted` down to `path`. One that cannot be handed
/// down is missed only when a limit needs it, and then the limit's file says so.
pub fn hand_down(mount: &Path, path: &Path, wanted: impl Fn(&str) -> bool) {
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
            if wanted(controller) && !enabled.split(' ').any(|name| name == controller) {
                let request = format!("+{controller}");
                let _ = files::write_raw(directory, "cgroup.subtree_control", &request);
            }
        }
    }
}

/// Writes all limits but the devices'.
///
/// # Errors
/// [`Error::Os`] naming the file, [`Error::Unsupported`] for what version 2 has not.
pub fn limit(path: &Path, resources: &Resources) -> Result<()> {
    if let Some(memory) = &resources.memory {
        memory::limit(path, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu::limit(path, cpu)?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit)
        && limit != 0
    {
        let field = "linux.resources.pids.limit";
        files::write_limit(path, field, "pids.max", &files::or_max(limit))?;
    }
    if let Some(block_io) = &resources.block_io {
        io::limit(path, block_io)?;
    }
    limit_hugepages(path, resources)?;
    files::write_rdma(path, &resources.rdma)?;
    if let Some(network) = &resources.network {
        if network.class_id.is_some() {
            return Err(absent("network.classID"));
        }
        if !network.priorities.is_empty() {
            return Err(absent("network.priorities"));
        }
    }
    for (name, value) in &resources.unified {
        let field = "linux.resources.unified";
        if name.contains('/') || !name.contains('.') {
            return Err(Error::invalid(field, name.clone()));
        }
        files::write_limit(path, field, name, value)?;
    }
    Ok(())
}

/// Writes the limits of huge pages.
///
/// # Errors
/// As [`limit`].
pub fn limit_hugepages(path: &Path, resources: &Resources) -> Result<()> {
    for limit in &resources.hugepage_limits {
        files::write_hugepages(path, limit, "max")?;
    }
    Ok(())
}

/// What only version 1 has.
fn absent(field: &str) -> Error {
    Error::unsupported(
        format!("linux.resources.{field}"),
        "cgroup2 has no such limit",
    )
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
    fn pids_hugepages_rdma_and_free_files_are_written() {
        let tree = Tree::v2();
        let names = [
            "pids.max",
            "hugetlb.2MB.max",
            "hugetlb.2MB.rsvd.max",
            "rdma.max",
            "memory.high",
        ];
        tree.touch("unified", &names);
        let wanted = resources(json!({
            "pids": {"limit": 12},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}],
            "rdma": {"mlx5_1": {"hcaObjects": 7}},
            "unified": {"memory.high": "max"},
        }));
        tree.cgroup.limit(&wanted).unwrap();
        let values = names.map(|name| tree.get("unified", name));
        assert_eq!(
            values,
            ["12", "2097152", "2097152", "mlx5_1 hca_object=7", "max"]
        );
    }

    #[test]
    fn what_version_2_has_not_is_named() {
        let tree = Tree::v2();
        for (value, field) in [
            (json!({"memory": {"kernelTCP": 5}}), "memory.kernelTCP"),
            (json!({"memory": {"swappiness": 5}}), "memory.swappiness"),
            (
                json!({"memory": {"disableOOMKiller": true}}),
                "memory.disableOOMKiller",
            ),
            (
                json!({"memory": {"useHierarchy": false}}),
                "memory.useHierarchy",
            ),
            (json!({"memory": {"limit": 5}}), "memory.limit"),
            (
                json!({"cpu": {"realtimeRuntime": 5}}),
                "cpu.realtimeRuntime",
            ),
            (json!({"cpu": {"realtimePeriod": 5}}), "cpu.realtimePeriod"),
            (json!({"cpu": {"idle": 1}}), "cpu.idle"),
            (json!({"blockIO": {"leafWeight": 10}}), "blockIO.leafWeight"),
            (
                json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 9}]}}),
                "blockIO.weightDevice",
            ),
            (json!({"network": {"classID": 1}}), "network.classID"),
            (
                json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
                "network.priorities",
            ),
            (json!({"unified": {"../x.y": "1"}}), "unified"),
            (json!({"unified": {"no.such": "1"}}), "unified"),
            (
                json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}),
                "hugepageLimits.pageSize",
            ),
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

    #[test]
    fn controllers_are_handed_down_from_the_top() {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path();
        let path = mount.join("a/b");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(mount.join("cgroup.controllers"), "memory pids\n").unwrap();
        for above in [mount, &mount.join("a")] {
            std::fs::write(above.join("cgroup.subtree_control"), "").unwrap();
        }
        hand_down(mount, &path, |name| name == "pids");
        for above in [mount, &mount.join("a")] {
            let text = std::fs::read_to_string(above.join("cgroup.subtree_control")).unwrap();
            assert_eq!(text, "+pids");
        }
    }
}
