//! The runtime is killed at every point between two of its steps; after each, `delete --force`
//! leaves nothing.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "../../tests/harness/mod.rs"]
mod harness;

use std::process::{ExitStatus, Stdio};

use harness::{Container, wait_until};

/// More points than there are.
const MANY: u32 = 200;

/// A container whose cgroup has another above it that goes with it.
fn container() -> Container {
    let mut container = Container::new("sleep 1000 & sleep 1000");
    let path = format!("/{}/below", container.id);
    container.spec["linux"]["cgroupsPath"] = path.into();
    container
}

/// The runtime, killed at the `point`th point of its own or of the container's first process.
fn killed_at(container: &Container, variable: &str, point: u32, words: &[&str]) -> ExitStatus {
    container.save();
    let mut command = container.command(words);
    command.env(variable, point.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap()
}

/// Processes of the container, wherever they are, known by its directory or its cgroup.
fn processes(container: &Container) -> Vec<String> {
    let directory = container.directory.path().to_str().unwrap();
    let cgroup = format!("/{}/below", container.id);
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let cgroups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        // The runtime's own words are the container's until it executes its program.
        if String::from_utf8_lossy(&words).contains(directory)
            || cgroups.contains(&cgroup)
            || mounts.contains(directory)
        {
            found.push(name);
        }
    }
    found
}

fn assert_nothing_left(container: &Container, what: &str) {
    container.ok(&["delete", "--force", &container.id]);
    // One that lost its runtime ends by itself, without anybody to wait for it.
    wait_until(&format!("no process is left after {what}"), || {
        processes(container).is_empty()
    });
    container.assert_gone();
}

/// Kills at the first point, the second, …, until the command passes fewer; gives how many.
fn every_point(variable: &str, words: &[&str], before: impl Fn(&Container)) -> u32 {
    for point in 1..MANY {
        let container = container();
        before(&container);
        let bundle = container.directory.path().to_str().unwrap().to_owned();
        let mut all = words.to_vec();
        all.push(&container.id);
        if words.contains(&"create") {
            all.extend(["--bundle", &bundle]);
        }
        let status = killed_at(&container, variable, point, &all);
        assert_nothing_left(&container, &format!("{variable}={point} of {words:?}"));
        if status.success() {
            return point - 1;
        }
    }
    panic!("{words:?} has no end");
}

fn create(container: &Container) {
    assert!(container.create(&[]).status.success());
}

#[test]
fn create_killed_anywhere() {
    let points = every_point("BRISK_FAULT", &["create"], |_| {});
    assert!(points > 20, "{points}");
}

#[test]
fn create_whose_first_process_is_killed_anywhere() {
    let points = every_point("BRISK_FAULT_INIT", &["create"], |_| {});
    // The last one comes after `create` has gone well.
    assert!(points >= 8, "{points}");
}

#[test]
fn start_killed_anywhere() {
    let points = every_point("BRISK_FAULT", &["start"], create);
    assert!(points >= 5, "{points}");
}

#[test]
fn delete_killed_anywhere() {
    let points = every_point("BRISK_FAULT", &["delete", "--force"], Container::start);
    assert!(points > 10, "{points}");
}
