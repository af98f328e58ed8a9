//! In the background: lists, logs, further programs, ends.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::lab::Lab;
use crate::support::node::{mounts_below, processes_of};
use crate::support::registry::until;
use crate::support::text;

const LIMIT: Duration = Duration::from_secs(60);

fn rows(lab: &Lab) -> Vec<serde_json::Value> {
    serde_json::from_str(&lab.brisk(&["ps", "-a", "--json"]).out).unwrap()
}

fn state(lab: &Lab, name: &str) -> String {
    let rows = rows(lab);
    let row = rows.iter().find(|row| row["name"] == name);
    row.map_or("gone", |row| row["state"].as_str().unwrap())
        .to_owned()
}

#[test]
fn a_whole_life() {
    let lab = Lab::new("zoo");
    let script =
        "echo out; echo err >&2; trap 'echo bye; exit 5' TERM; while :; do sleep 0.1; done";
    let id = lab.detached(&["--name", "one"], script);
    assert_eq!(id.len(), 64);
    let row = &rows(&lab)[0];
    assert_eq!(
        (&row["id"], &row["name"], &row["state"]),
        (&id.into(), &"one".into(), &"running".into())
    );
    until("its output", LIMIT, || {
        lab.brisk(&["logs", "one"]).err == "err\n"
    });
    assert_eq!(lab.brisk(&["logs", "one"]).out, "out\n");

    let done = lab.brisk(&[
        "exec",
        "-e",
        "A=1",
        "-w",
        "/zoo",
        "one",
        "sh",
        "-c",
        "echo $A $PWD; exit 4",
    ]);
    assert_eq!((done.code, done.out.as_str()), (4, "1 /zoo\n"));
    assert_eq!(lab.brisk(&["exec", "one", "nosuch"]).code, 127);

    let taken = lab.brisk(&["run", "-d", "--name", "one", &lab.image, "true"]);
    assert_eq!(taken.code, 125);
    assert!(
        taken.err.contains("\"one\"") && taken.err.contains("hint:"),
        "{taken:?}"
    );
    let running = lab.brisk(&["rm", "one"]);
    assert!(
        running.code == 1 && running.err.contains("running"),
        "{running:?}"
    );

    assert_eq!(lab.brisk(&["stop", "one"]).out, "one\n");
    assert_eq!(lab.brisk(&["wait", "one"]).out, "5\n");
    assert_eq!(lab.brisk(&["logs", "one"]).out, "out\nbye\n");
    assert_eq!(lab.brisk(&["ps"]).out.lines().count(), 1, "only the header");
    assert_eq!(rows(&lab)[0]["exit_code"], 5);
    assert_eq!(lab.brisk(&["rm", "one"]).out, "one\n");
    assert_eq!(rows(&lab).len(), 0);
    let gone = lab.brisk(&["logs", "one"]);
    assert!(gone.code == 1 && gone.err.contains("\"one\""), "{gone:?}");
}

#[test]
fn logs_can_be_followed_to_the_end() {
    let lab = Lab::new("zoo");
    lab.detached(
        &["--name", "talker"],
        "for i in 1 2 3; do echo $i; sleep 0.3; done",
    );
    let mut logs = lab.node.command(["logs", "-f", "talker"]);
    let output = logs
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(text(&output.stdout), "1\n2\n3\n");
    assert_eq!(lab.brisk(&["wait", "talker"]).out, "0\n");
}

#[test]
fn a_killed_program_has_its_signals_code() {
    let lab = Lab::new("zoo");
    let mut run = lab.run_command(&["--name", "victim"], &["sh", "-c", "echo up; sleep 1000"]);
    let mut run = run.stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    run.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert_eq!(lab.brisk(&["kill", "victim"]).out, "victim\n");
    assert_eq!(run.wait().unwrap().code(), Some(137));
}

#[test]
fn nothing_is_left_of_a_removed_container() {
    let lab = Lab::new("zoo");
    lab.shell(&[], "echo x > /written");
    let containers = lab.node.root().join("containers");
    let left: Vec<_> = std::fs::read_dir(&containers)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["names"]);
    assert_eq!(
        std::fs::read_dir(containers.join("names")).unwrap().count(),
        0
    );
    // The image's mount ends with its last container.
    until("the end of the mount", LIMIT, || {
        mounts_below(&lab.node.root()).is_empty()
    });
}

#[test]
fn a_container_outlives_its_monitor_and_is_cleared_away() {
    let lab = Lab::new("zoo");
    lab.detached(&["--name", "orphan"], "sleep 1000");
    let monitors: Vec<i32> = processes_of(&lab.node.root())
        .into_iter()
        .filter(|pid| {
            text(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).contains("\0monitor")
        })
        .collect();
    assert_eq!(monitors.len(), 1);
    kill(Pid::from_raw(monitors[0]), Signal::SIGKILL).unwrap();
    assert_eq!(state(&lab, "orphan"), "running");
    assert_eq!(
        lab.brisk(&["exec", "orphan", "echo", "alive"]).out,
        "alive\n"
    );
    assert_eq!(lab.brisk(&["stop", "-t", "1", "orphan"]).code, 0);
    until("its end", LIMIT, || state(&lab, "orphan") == "exited");
    assert_eq!(
        lab.brisk(&["wait", "orphan"]).out,
        "255\n",
        "nobody saw its code"
    );
    assert_eq!(lab.brisk(&["rm", "orphan"]).code, 0);
    until("the end of the mount", LIMIT, || {
        mounts_below(&lab.node.root()).is_empty()
    });
    assert_eq!(cgroups_of_containers(&lab), Vec::<String>::new());
}

/// Cgroups of this node's containers; they are named by ids.
fn cgroups_of_containers(lab: &Lab) -> Vec<String> {
    let ids: Vec<String> = rows(lab)
        .iter()
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    cgroups()
        .into_iter()
        .filter(|name| ids.iter().any(|id| name.contains(id)))
        .collect()
}

fn cgroups() -> Vec<String> {
    let find = std::process::Command::new("find")
        .args([
            "/sys/fs/cgroup",
            "-maxdepth",
            "3",
            "-type",
            "d",
            "-name",
            "brisk-*",
        ])
        .output()
        .unwrap();
    text(&find.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_dropped_node_leaves_nothing() {
    let lab = Lab::new("zoo");
    let ids = [
        lab.detached(&[], "sleep 1000"),
        lab.detached(&["--memory", "64m"], "sleep 1000"),
    ];
    assert!(cgroups().iter().any(|name| name.contains(&ids[0])));
    let mount = lab.node.mount(&[&lab.image], "tree");
    assert!(mount.join("zoo/small").exists());
    let Lab { node, .. } = lab;
    let (root, directory) = (node.root(), mount.parent().unwrap().to_owned());
    drop(node);
    assert!(!directory.exists());
    assert_eq!(mounts_below(&directory), Vec::<std::path::PathBuf>::new());
    until("the end of its processes", LIMIT, || {
        processes_of(&root).is_empty()
    });
    assert!(
        !cgroups()
            .iter()
            .any(|name| ids.iter().any(|id| name.contains(id)))
    );
}
