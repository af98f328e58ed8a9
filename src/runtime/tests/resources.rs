//! Limits, as the kernel holds them. Needs root and the usual hierarchies of version 1; what
//! this machine has no controller for is tested by its file writes, beside the code.

mod harness;

use std::path::PathBuf;

use harness::Container;
use serde_json::json;

#[test]
fn memory_cpu_and_pids_are_limited() {
    let mut container = Container::new("exec sleep 1000");
    container.spec["linux"]["resources"] = json!({
        "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swappiness": 50,
                   "kernel": 1, "disableOOMKiller": false, "useHierarchy": true},
        "cpu": {"shares": 512, "quota": 20_000, "period": 50_000, "burst": 1_000, "cpus": "0",
                "mems": "0"},
        "pids": {"limit": 50},
        "blockIO": null, "hugepageLimits": null, "rdma": null,
    });
    assert!(container.create(&[]).status.success());
    for (controller, name, value) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "50"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "20000"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpu", "cpu.cfs_burst_us", "1000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "50"),
    ] {
        assert_eq!(container.cgroup_file(controller, name), value, "{name}");
    }
}

#[test]
fn devices_are_those_that_the_rules_allow() {
    let mut container = Container::new(
        "head -c 1 /dev/zero >/dev/null && echo zero; head -c 1 /dev/full >/dev/null && echo full; \
         (: </dev/fuse) 2>/dev/null && echo fuse; true",
    );
    container.spec["linux"]["devices"] =
        json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
    container.spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 7,
                "minor": null, "access": "r"}]);
    assert_eq!(container.output(), "zero\nfull\n");

    // A hole in a wider rule.
    container.spec["linux"]["resources"]["devices"] = json!([{"allow": true, "type": "c", "major": 10, "access": "rw"},
               {"allow": false, "type": "c", "major": 10, "minor": 200, "access": "w"}]);
    let output = container.run();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        words.contains("linux.resources.devices") && words.contains("c 10:200"),
        "{words}"
    );
    container.assert_gone();
}

#[test]
fn a_controller_that_is_missing_is_named_and_nothing_is_left() {
    for (field, value) in [
        ("rdma", json!({"mlx5_1": {"hcaHandles": 1}})),
        (
            "network",
            json!({"priorities": [{"name": "lo", "priority": 1}]}),
        ),
        ("unified", json!({"memory.high": "1"})),
    ] {
        let mut container = Container::new("true");
        container.spec["linux"]["resources"][field] = value;
        // A machine that has the controller does as it is told.
        let output = container.run();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() || words.contains(&format!("linux.resources.{field}")),
            "{words}"
        );
        container.assert_gone();
    }
}

#[test]
fn shares_of_caches_are_refused_where_there_are_none() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    if mounts.contains(" - resctrl ") {
        return;
    }
    let mut container = Container::new("true");
    container.spec["linux"]["intelRdt"] = json!({"l3CacheSchema": "L3:0=f"});
    let output = container.run();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("linux.intelRdt is not supported"), "{words}");
    container.assert_gone();
}

/// Where huge pages are counted, in either version.
fn hugepage_file(container: &Container) -> Option<(PathBuf, String)> {
    let size = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse::<u64>();
            kib.ok().filter(|kib| *kib == 2048)
        })
        .map(|_| "2MB".to_owned())?;
    let groups = PathBuf::from("/sys/fs/cgroup");
    let files = [
        groups
            .join("hugetlb")
            .join(&container.id)
            .join(format!("hugetlb.{size}.limit_in_bytes")),
        groups
            .join("unified")
            .join(&container.id)
            .join(format!("hugetlb.{size}.max")),
        groups
            .join(&container.id)
            .join(format!("hugetlb.{size}.max")),
    ];
    let found = files.into_iter().find(|path| path.exists());
    found.map(|path| (path, size))
}

#[test]
fn huge_pages_are_limited_in_the_tree_that_counts_them() {
    let mut container = Container::new("exec sleep 1000");
    container.spec["linux"]["resources"]["hugepageLimits"] =
        json!([{"pageSize": "2MB", "limit": 4_194_304}]);
    let created = container.create(&[]);
    if !created.status.success() {
        let words = String::from_utf8_lossy(&created.stderr).into_owned();
        assert!(words.contains("linux.resources.hugepageLimits"), "{words}");
        return;
    }
    let (path, _) = hugepage_file(&container).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap().trim(), "4194304");
}

/// The program that guards devices in cgroup2 does so beside version 1 too, so it can be seen at
/// work by a runtime that is shown a machine without the hierarchies of version 1.
#[test]
fn a_device_program_denies_what_no_rule_allows() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    if !mounts.contains(" - cgroup2 ") {
        return;
    }
    let mut container = Container::new(
        "(: </dev/null) && echo null; (: </dev/fuse) 2>/dev/null && echo fuse; true",
    );
    container.spec["linux"]["devices"] =
        json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
    for (allow, expected) in [(true, "null\nfuse\n"), (false, "null\n")] {
        container.spec["linux"]["resources"] = json!({"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": allow, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]});
        container.save();
        let script = "mount --make-rprivate /; \
                      for m in $(findmnt -rno TARGET -t cgroup); do umount $m; done; exec \"$@\"";
        let bundle = container.directory.path().to_str().unwrap().to_owned();
        let output = std::process::Command::new("timeout")
            .args([
                "-s", "KILL", "60", "unshare", "-m", "sh", "-c", script, "sh",
            ])
            .args([env!("CARGO_BIN_EXE_brisk-runtime"), "--root"])
            .arg(container.root())
            .args(["run", "--bundle", &bundle, &container.id])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if words.contains("load the program") && words.contains("not permitted") {
            return;
        }
        assert!(output.status.success(), "{words}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{words}");
        container.assert_gone();
    }
}
