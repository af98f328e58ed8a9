//! Start, stop and kill of the daemon.

use std::os::unix::net::UnixStream;

use super::daemon::{Daemon, LIMIT};
use super::support::containerd::Containerd;
use super::support::node::Node;
use super::support::registry::{DockerRegistry, until};
use super::support::text;

#[test]
fn snapshots_outlive_the_daemon_and_its_kill() {
    let node = Node::new();
    let mut daemon = Daemon::start(&node);
    let containerd = Containerd::start(&daemon.socket);
    let snapshots = |words: &[&str]| {
        let mut all = vec!["snapshots", "--snapshotter", "brisk"];
        all.extend(words);
        containerd.ctr(&all)
    };
    snapshots(&["prepare", "one"]);
    snapshots(&["commit", "layer", "one"]);
    daemon.kill();
    let mut daemon = Daemon::start(&node);
    containerd.wait_for_snapshotter();
    snapshots(&["prepare", "two", "layer"]);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!daemon.socket.exists(), "a stopped daemon leaves no socket");

    let _daemon = Daemon::start(&node);
    containerd.wait_for_snapshotter();
    let mut there = containerd.snapshots();
    there.sort();
    let expected = [("layer", "Committed"), ("two", "Active")];
    let expected = expected.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    assert_eq!(there, expected);
}

#[test]
fn one_service_has_containerds_snapshots_and_brisks_mounts() {
    let registry = DockerRegistry::start();
    let reference = registry.push("zoo", "zoo");
    let node = Node::new();
    // A service that a command starts in the background, with a mount, is taken over from.
    let tree = node.mount(&[&reference], "tree");
    let before = node.service();
    let mut daemon = Daemon::start_with(&node, &["--exit-unmount"]);
    assert_ne!(daemon.pid(), before);
    assert_eq!(node.service(), daemon.pid(), "commands ask the daemon");
    assert!(std::fs::read(tree.join("bin/busybox")).is_ok());
    let output = node.brisk(&["run", "--rm", &reference, "echo", "hello"]);
    assert_eq!(text(&output.stdout), "hello\n");
    assert_eq!(node.service(), daemon.pid());

    let mut second = Daemon::command(&node);
    let output = second
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("another brisk daemon"), "{said}");
    assert!(UnixStream::connect(&daemon.socket).is_ok());

    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!tree.join("bin").exists(), "its end took the mount down");
    until("the keeper's end", LIMIT, || node.keeper().is_none());
}
