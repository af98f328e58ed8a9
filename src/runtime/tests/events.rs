//! `events`, `update` and what else looks into the container's cgroups. Needs root and the usual
//! hierarchies of version 1.

#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::{Container, wait_until};
use serde_json::{Value, json};

/// A command that is killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn follow(container: &Container, interval: &str) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brisk-runtime"));
    command.arg("--root").arg(container.root());
    command.args(["events", "--interval", interval, &container.id]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Running(command.spawn().unwrap())
}

#[test]
fn statistics_are_one_document_of_the_known_shape() {
    let mut container = Container::new("exec sleep 1000");
    container.spec["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
    container.start();
    let text = container.ok(&["events", "--stats", &container.id]);
    let start = format!("{{\"type\":\"stats\",\"id\":\"{}\",\"data\":", container.id);
    assert!(text.starts_with(&start) && text.ends_with("}\n"), "{text}");
    let event: Value = serde_json::from_str(&text).unwrap();
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert_eq!(data["pids"]["current"], 1);
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert!(data["cpu"]["throttling"]["throttledTime"].is_u64());
    for part in ["cpuset", "blkio", "hugetlb", "intel_rdt"] {
        assert!(data[part].is_object(), "{part} of {text}");
    }
    container.ok(&["kill", &container.id, "KILL"]);
    container.wait_for("stopped");
    let words = container.fails(&["events", "--stats", &container.id]);
    assert!(words.contains("container not running"), "{words}");
}

#[test]
fn events_go_on_until_the_container_is_deleted() {
    let container = Container::new("exec sleep 1000");
    container.start();
    let mut events = follow(&container, "10ms");
    let mut lines = BufReader::new(events.0.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(
            (&event["type"], &event["id"]),
            (&json!("stats"), &json!(container.id))
        );
    }
    container.ok(&["delete", "--force", &container.id]);
    // Ends, or this reads for ever.
    assert!(lines.all(|line| line.is_ok()));
    assert!(events.0.wait().unwrap().success());
    for interval in ["0", "0s", "nonsense"] {
        let words = container.fails(&["events", "--interval", interval, "x"]);
        assert!(words.contains("--interval"), "{words}");
    }
}

#[test]
fn a_kill_for_want_of_memory_is_an_event() {
    // It hoards only once it is told to.
    let mut container =
        Container::new("cat /go >/dev/null; x=$(busybox tr '\\0' a </dev/zero); sleep 1000");
    nix::unistd::mkfifo(
        &container.rootfs().join("go"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    container.spec["linux"]["resources"]["memory"] = json!({"limit": 16_777_216});
    // Where swap is counted it must not give way instead.
    if Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists() {
        container.spec["linux"]["resources"]["memory"]["swap"] = json!(16_777_216);
    }
    container.start();
    let mut events = follow(&container, "10ms");
    let mut lines = BufReader::new(events.0.stdout.take().unwrap()).lines();
    // The watch is there once the first statistics are.
    assert!(lines.next().unwrap().unwrap().contains("stats"));
    drop(
        std::fs::File::options()
            .write(true)
            .open(container.rootfs().join("go"))
            .unwrap(),
    );
    let wanted = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}", container.id);
    assert!(lines.any(|line| line.is_ok_and(|line| line == wanted)));
}

#[test]
fn update_changes_what_it_is_told_by_flags_and_by_documents() {
    let container = Container::new("exec sleep 1000");
    container.start();
    let update = |flags: &[&str]| {
        let mut arguments = vec!["update"];
        arguments.extend(flags);
        arguments.push(&container.id);
        container.ok(&arguments);
    };
    update(&[
        "--memory",
        "64M",
        "--memory-reservation",
        "32m",
        "--pids-limit",
        "20",
    ]);
    update(&[
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "20000",
        "--cpu-share",
        "300",
    ]);
    // Possible only once the quota has grown: whatever order it takes.
    update(&[
        "--cpu-burst",
        "30000",
        "--cpu-quota",
        "40000",
        "--kernel-memory",
        "1",
    ]);
    let file = |controller, name| container.cgroup_file(controller, name);
    assert_eq!(file("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(file("memory", "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(file("pids", "pids.max"), "20");
    assert_eq!(file("cpu", "cpu.cfs_period_us"), "50000");
    assert_eq!(file("cpu", "cpu.cfs_quota_us"), "40000");
    assert_eq!(file("cpu", "cpu.cfs_burst_us"), "30000");
    assert_eq!(file("cpu", "cpu.shares"), "300");

    let document = json!({"memory": {"limit": 33_554_432, "kernel": null}, "pids": {"limit": 30},
                          "devices": container.spec["linux"]["resources"]["devices"]});
    let mut command = container.command(&["update", "--resources=-", &container.id]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(document.to_string().as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(file("memory", "memory.limit_in_bytes"), "33554432");
    assert_eq!(file("pids", "pids.max"), "30");

    let path = container.directory.path().join("resources.json");
    let allow = json!({"devices": [{"allow": true, "type": "c", "major": 10, "minor": 229,
                                    "access": "rw"}]});
    std::fs::write(&path, allow.to_string()).unwrap();
    update(&["--resources", path.to_str().unwrap()]);
    assert!(
        file("devices", "devices.list")
            .lines()
            .any(|line| line == "c 10:229 rw")
    );
    std::fs::write(
        &path,
        json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}}).to_string(),
    )
    .unwrap();
    let words = container.fails(&["update", "-r", path.to_str().unwrap(), &container.id]);
    assert!(words.contains("linux.resources.memory.limit"), "{words}");
    assert_eq!(file("memory", "memory.limit_in_bytes"), "33554432");
}

#[test]
fn kill_all_reaches_them_without_a_pid_namespace() {
    let mut container = Container::new("sleep 1000 & sleep 1001 & exec sleep 1002");
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    container.start();
    let processes = || {
        let text = container.ok(&["ps", "-f", "json", &container.id]);
        serde_json::from_str::<Vec<i32>>(&text).unwrap()
    };
    wait_until("three processes run", || processes().len() == 3);
    container.ok(&["kill", "--all", &container.id, "KILL"]);
    container.wait_for("stopped");
    assert_eq!(processes(), Vec::<i32>::new());
    container.ok(&["delete", &container.id]);
    container.assert_gone();
}

#[test]
fn deleting_by_force_takes_those_without_a_pid_namespace_and_their_cgroups() {
    let mut container = Container::new(
        "mkdir /sys/fs/cgroup/memory/inner && echo $$ >/sys/fs/cgroup/memory/inner/cgroup.procs; \
         sleep 1000 & exec sleep 1002",
    );
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    for mount in container.spec["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
    container.start();
    wait_until("both run", || {
        container
            .ok(&["ps", "-f", "json", &container.id])
            .matches(',')
            .count()
            == 1
    });
    container.ok(&["delete", "--force", &container.id]);
    container.assert_gone();
}
