//! Images without labels: unpacked by containerd into ordinary snapshots.

use std::process::Command;

use super::daemon::{Daemon, LIMIT};
use super::support::containerd::Containerd;
use super::support::node::Node;
use super::support::registry::{DockerRegistry, until};
use super::support::tree::{assert_equal, walk};
use super::support::{images, run};

/// Layers of the test image.
const LAYERS: usize = 5;

/// A mounted snapshot that the garbage collection leaves alone (it would take a view); unmounted
/// when it is dropped.
struct Tree(std::path::PathBuf);

impl Tree {
    fn of(containerd: &Containerd, by: &str, top: &str, place: std::path::PathBuf) -> Self {
        let prepare = ["snapshots", "--snapshotter", by, "prepare", "look", top];
        containerd.ctr(&prepare);
        let target = place.to_str().unwrap();
        let print = ["snapshots", "--snapshotter", by, "mounts", target, "look"];
        let command = containerd.ctr(&print);
        run(Command::new("sh").args(["-ec", &command]));
        Tree(place)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn an_image_is_pulled_run_and_removed() {
    let registry = DockerRegistry::start();
    let reference = registry.push("zoo", "zoo");
    let node = Node::new();
    let daemon = Daemon::start(&node);
    let containerd = Containerd::start(&daemon.socket);
    let snapshots = node.root().join("snapshotter/snapshots");
    let entries = || std::fs::read_dir(&snapshots).unwrap().count();

    let pull = [
        "images",
        "pull",
        "--plain-http",
        "--snapshotter",
        "brisk",
        &reference,
    ];
    containerd.ctr(&pull);
    let there = containerd.snapshots();
    assert_eq!(there.len(), LAYERS, "{there:?}");
    assert!(
        there.iter().all(|(_, kind)| kind == "Committed"),
        "{there:?}"
    );
    assert_eq!(entries(), LAYERS);

    // The tree is the one that containerd's own snapshotter gives.
    let pull = [
        "images",
        "pull",
        "--plain-http",
        "--snapshotter",
        "overlayfs",
        &reference,
    ];
    containerd.ctr(&pull);
    let parents = containerd.ctr(&["snapshots", "--snapshotter", "brisk", "ls"]);
    let top = there
        .iter()
        .map(|(name, _)| name)
        .find(|name| parents.matches(name.as_str()).count() == 1)
        .expect("one snapshot has none on it");
    let timed = images::named_directories("zoo");
    {
        let ours = Tree::of(&containerd, "brisk", top, node.directory("ours"));
        let theirs = Tree::of(&containerd, "overlayfs", top, node.directory("theirs"));
        assert!(ours.0.join("bin/busybox").exists());
        assert_equal(&walk(&ours.0, &timed), &walk(&theirs.0, &timed));
    }
    for by in ["brisk", "overlayfs"] {
        containerd.ctr(&["snapshots", "--snapshotter", by, "rm", "look"]);
    }

    let words = "echo hello >/written && cat /written";
    let out = containerd.ctr(&[
        "run",
        "--rm",
        "--snapshotter",
        "brisk",
        &reference,
        "c1",
        "/bin/sh",
        "-c",
        words,
    ]);
    assert_eq!(out, "hello\n");
    assert_eq!(
        containerd.snapshots().len(),
        LAYERS,
        "the container's is gone"
    );

    containerd.ctr(&["images", "rm", "--sync", &reference]);
    until("everything's being freed", LIMIT, || {
        containerd.snapshots().is_empty()
            && entries() == 0
            && std::fs::read_dir(node.root().join("snapshotter/removed"))
                .unwrap()
                .next()
                .is_none()
    });
}
