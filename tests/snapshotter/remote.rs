//! Remote snapshots by the calls and labels of every client, without one.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use tonic::Code;

use super::daemon::{Daemon, LIMIT};
use super::support::images;
use super::support::node::Node;
use super::support::registry::{DockerRegistry, until};
use super::support::tree::{assert_equal, walk};
use super::unpacker::{Family, Image, Mounted, Unpacker};

/// Nothing arrives unasked.
const STILL: &str = "[fetch]\nbackground = \"off\"\n";

/// The image of a test with its index, in a registry.
fn indexed(registry: &DockerRegistry, repository: &str) -> Image {
    let reference = registry.push("zoo", repository);
    Node::new().brisk(&["index", "push", &reference]);
    Image::new(&images::layout("zoo"), &reference)
}

/// The directories below a snapshot's upper one, by its mount's options.
fn lowers(mounts: &[brisk_snapshotter::wire::types::Mount]) -> Vec<PathBuf> {
    assert_eq!(mounts.len(), 1);
    let mut options = mounts[0].options.iter();
    let lower = options.find_map(|o| o.strip_prefix("lowerdir=")).unwrap();
    lower.split(':').map(PathBuf::from).collect()
}

fn sources(node: &Node) -> Vec<String> {
    let status = node.status();
    let layers = status["mounts"][0]["layers"].as_array().unwrap().clone();
    let source = |l: &serde_json::Value| l["index"]["source"].as_str().unwrap().to_owned();
    layers.iter().map(source).collect()
}

#[test]
fn every_client_and_container_shares_one_mount() {
    let registry = DockerRegistry::start();
    let image = indexed(&registry, "zoo");
    let node = Node::with_config(STILL);
    let daemon = Daemon::start(&node);
    let mut one = Unpacker::new(&daemon.socket, "one");
    let mut other = Unpacker::new(&daemon.socket, "other");
    let top = one.pull(&image, Family::Cri);
    assert_eq!(other.pull(&image, Family::Stargz), top);
    assert_eq!(one.list("").len(), image.layers.len(), "no key is left");

    let first = one.prepare("one/c1", &top).unwrap();
    let second = other.prepare("other/c1", &top).unwrap();
    assert_eq!(lowers(&first).len(), 1);
    assert_eq!(lowers(&first), lowers(&second));
    assert_eq!(lowers(&first), lowers(&one.mounts("one/c1").unwrap()));
    let timed = images::named_directories("zoo");
    let expected = walk(&images::unpacked("zoo"), &timed);
    let tree = Mounted::new(&first, node.directory("c1"));
    assert_equal(&walk(&tree.0, &timed), &expected);
    assert_eq!(tree.0.metadata().unwrap().mode() & 0o7777, 0o755);

    // A view is read-only and hides neither set-user-ID bits nor devices.
    let view = one.view("one/v1", &top);
    let view = Mounted::new(&view, node.directory("v1"));
    assert_equal(&walk(&view.0, &timed), &expected);
    let flags = nix::sys::statvfs::statvfs(&view.0).unwrap().flags();
    use nix::sys::statvfs::FsFlags;
    assert!(
        !flags.intersects(FsFlags::ST_NOSUID | FsFlags::ST_NODEV),
        "{flags:?}"
    );
    let written = std::fs::write(view.0.join("new"), "").unwrap_err();
    assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);

    // What a layer takes is what of it has arrived.
    let taken: i64 = image.chain_ids.iter().map(|id| one.usage(id).size).sum();
    assert!(taken > 0);
    drop((tree, view));
    one.remove_all();
}

#[test]
fn snapshots_stand_on_remote_ones() {
    let registry = DockerRegistry::start();
    let image = indexed(&registry, "zoo");
    let node = Node::with_config(STILL);
    let daemon = Daemon::start(&node);
    let mut client = Unpacker::new(&daemon.socket, "n");
    let top = client.pull(&image, Family::Cri);
    let mounts = client.prepare("work", &top).unwrap();
    {
        let work = Mounted::new(&mounts, node.directory("work"));
        std::fs::write(work.0.join("added"), "by a build").unwrap();
        std::fs::remove_file(work.0.join("bin/busybox")).unwrap();
    }
    client.commit("built", "work");
    let mounts = client.prepare("container", "built").unwrap();
    assert_eq!(lowers(&mounts).len(), 2);
    let tree = Mounted::new(&mounts, node.directory("tree"));
    let added = std::fs::read_to_string(tree.0.join("added")).unwrap();
    assert_eq!(added, "by a build");
    assert!(!tree.0.join("bin/busybox").exists());
    assert!(tree.0.join("bin").exists());
}

#[test]
fn the_users_reference_decides_which_indexes_are_believed() {
    let registry = DockerRegistry::start();
    let mut image = indexed(&registry, "zoo");
    let node = Node::with_config(STILL);
    let daemon = Daemon::start(&node);
    let mut client = Unpacker::new(&daemon.socket, "n");
    let pulled = |client: &mut Unpacker, image: &Image| {
        let top = client.pull(image, Family::Cri);
        client.prepare("container", &top).unwrap();
        let sources = sources(&node);
        client.remove_all();
        until("the mount's end", LIMIT, || {
            node.status()["mounts"].as_array().unwrap().is_empty()
        });
        sources
    };
    // containerd resolved the digest: the user named a tag.
    let by_tag = pulled(&mut client, &image);
    assert!(by_tag.iter().all(|s| s == "referrer"), "{by_tag:?}");
    image.reference = format!("{}@{}", image.reference, image.manifest);
    let by_digest = pulled(&mut client, &image);
    assert!(by_digest.iter().all(|s| s == "built"), "{by_digest:?}");
}

#[test]
fn an_index_of_one_repository_serves_no_other() {
    let registry = DockerRegistry::start();
    let reference = registry.push("zoo", "one");
    // Another index than the one that is built here.
    Node::new().brisk(&["index", "push", "--chunk-size", "256KiB", &reference]);
    let image = Image::new(&images::layout("zoo"), &reference);
    let reference = registry.push("zoo", "two");
    let copy = Image::new(&images::layout("zoo"), &reference);
    let node = Node::with_config(STILL);
    let daemon = Daemon::start(&node);
    let mut one = Unpacker::new(&daemon.socket, "one");
    let top = one.pull(&image, Family::Cri);
    one.prepare("one/c", &top).unwrap();
    assert!(sources(&node).iter().all(|s| s == "referrer"));

    let mut two = Unpacker::new(&daemon.socket, "two");
    let top = two.pull(&copy, Family::Cri);
    let before = lowers(&one.mounts("one/c").unwrap());
    let after = lowers(&two.prepare("two/c", &top).unwrap());
    let status = node.status();
    let mounts = status["mounts"].as_array().unwrap();
    let mount = mounts
        .iter()
        .find(|m| after[0].as_os_str() == m["directory"].as_str().unwrap());
    let layers = mount.unwrap()["layers"].as_array().unwrap();
    assert!(
        layers.iter().all(|l| l["index"]["trust"] == "trusted"),
        "{status}"
    );
    // The snapshots are shared all the same, and every one of them is one.
    assert_eq!(two.list("kind==committed").len(), image.layers.len());
    assert!(before[0].exists());
}

#[test]
fn what_cannot_be_resolved_is_unpacked_by_the_client() {
    let registry = DockerRegistry::start();
    let mut image = indexed(&registry, "zoo");
    let node = Node::with_config(STILL);
    let daemon = Daemon::start(&node);
    let mut client = Unpacker::new(&daemon.socket, "n");
    image.reference = format!("{}/nothing:here", registry.host());
    let answer = client.ask(&image, Family::Cri, 0, "").unwrap();
    assert_eq!(answer.unwrap_err()[0].r#type, "bind");
    client.commit("base", &format!("n/extract-0 {}", image.chain_ids[0]));
    // What stands on an unpacked layer is unpacked too, whatever it is.
    image.reference = format!("{}/zoo:latest", registry.host());
    let answer = client.ask(&image, Family::Cri, 1, "base").unwrap();
    assert!(answer.is_err());
    // An image that is not the one of the chain ID.
    image.chain_ids[0] = image.chain_ids[1].clone();
    assert!(client.ask(&image, Family::Stargz, 0, "").unwrap().is_err());
}

#[test]
fn an_image_is_served_on_without_its_registry() {
    let mut registry = DockerRegistry::start();
    let image = indexed(&registry, "zoo");
    let broken = Image::new(
        &images::layout("python"),
        &registry.push("python", "broken"),
    );
    let node = Node::with_config(STILL);
    let mut daemon = Daemon::start(&node);
    let mut client = Unpacker::new(&daemon.socket, "n");
    let top = client.pull(&image, Family::Cri);
    let lost = client.pull(&broken, Family::Cri);
    let before = client.prepare("before", &top).unwrap();
    client.prepare("lost", &lost).unwrap();
    let tree = Mounted::new(&before, node.directory("before"));
    let busybox = std::fs::read(tree.0.join("bin/busybox")).unwrap();
    let number = lowers(&before)[0]
        .join("bin/busybox")
        .metadata()
        .unwrap()
        .ino();

    registry.stop();
    daemon.kill();
    // One image cannot be served any more: that is no matter of the others.
    let documents = node.root().join("snapshotter/images");
    for entry in std::fs::read_dir(documents).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("/broken:") {
            std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        }
    }
    let daemon = Daemon::start(&node);
    let mut client = Unpacker::new(&daemon.socket, "n");
    assert_eq!(std::fs::read(tree.0.join("bin/busybox")).unwrap(), busybox);
    let after = client.prepare("after", &top).unwrap();
    assert_eq!(lowers(&before), lowers(&after), "the mount is still there");
    let again = lowers(&after)[0].join("bin/busybox").metadata().unwrap();
    assert_eq!(again.ino(), number);
    assert_eq!(client.list("").len(), 4 + 5 + 3);
    let refused = client.prepare("in vain", &lost).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(client.list("").len(), 4 + 5 + 3);

    // The registry is back: what was lost is had again.
    registry.restart();
    client.prepare("again", &lost).unwrap();
}
