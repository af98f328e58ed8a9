//! Whose word is taken for what a layer contains: indexes of strangers stay in their repository,
//! are held against the layer when it has arrived, and never stop a start.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use index_format::header::MAJOR_OFFSET;
use serde_json::Value;
use support::node::Node;
use support::registry::{DockerRegistry, until};
use support::small::{DECOY, SmallImage, VICTIM};
use support::{run, text};

const LIMIT: Duration = Duration::from_secs(30);

/// What a program reads as the victim's content, past the page cache.
fn victim(directory: &Path) -> io::Result<Vec<u8>> {
    let path = directory.join(VICTIM.0);
    let file = std::fs::File::open(&path)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    std::fs::read(&path)
}

fn assert_honest(directory: &Path) {
    assert_eq!(victim(directory).unwrap(), VICTIM.1);
}

fn assert_forged(directory: &Path) {
    assert_eq!(victim(directory).unwrap(), DECOY.1);
}

/// The one layer of an image as `inspect` tells of it.
fn layer(node: &Node, reference: &str) -> Value {
    let inspection = node.inspect(reference);
    let layers = inspection["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{inspection}");
    layers[0].clone()
}

fn index(layer: &Value) -> (&str, &str) {
    let of = |what: &str| layer["index"][what].as_str().unwrap_or("none");
    (of("source"), of("trust"))
}

fn reason(layer: &Value) -> &str {
    layer["reason"].as_str().unwrap_or("")
}

/// How far the only mount's index is trusted now.
fn trust(node: &Node) -> String {
    let status = node.status();
    let mounts = status["mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 1, "{status}");
    index(&mounts[0]["layers"][0]).1.to_owned()
}

fn mount_off(node: &Node, reference: &str, name: &str) -> PathBuf {
    node.mount(&["--background", "off", reference], name)
}

/// Mounts and gives what was said on stderr.
fn mount_aloud(node: &Node, reference: &str, name: &str) -> (PathBuf, String) {
    let directory = node.directory(name);
    let mut command = node.command(["mount", "--background", "off", reference]);
    let output = run(command.arg(&directory));
    (directory, text(&output.stderr))
}

#[test]
fn a_forged_index_stays_in_its_repository() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("repositories");
    let forged = image.push(&registry, "forged/image");
    let other = image.push(&registry, "other/image");
    image.attach(&forged, &image.forged_index(), |_| {});

    let node = Node::new();
    // Whoever can push here can move the tag as well: by tag, the index is taken.
    let first = mount_off(&node, &forged, "forged");
    assert_eq!(index(&layer(&node, &forged)), ("referrer", "unclosed"));
    assert_forged(&first);
    let second = mount_off(&node, &other, "other");
    assert_honest(&second);
    assert_eq!(index(&layer(&node, &other)), ("built", "trusted"));
    assert_honest(&second);
    // Nor does what the other repository's layer has left here take the forged one's place.
    node.brisk(&["umount", first.to_str().unwrap()]);
    node.brisk(&["umount", second.to_str().unwrap()]);
    let again = mount_off(&node, &other, "again");
    assert_honest(&again);
}

#[test]
fn a_reference_by_digest_refuses_attached_indexes_and_says_why() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("strict");
    let by_tag = image.push(&registry, "strict/image");
    image.attach(&by_tag, &image.forged_index(), |_| {});
    let by_digest = by_tag.replace(":latest", &format!("@{}", image.manifest_digest()));

    let node = Node::new();
    let before = layer(&node, &by_digest);
    assert_eq!(before["lazy"], false, "{before}");
    assert!(reason(&before).contains("policy strict"), "{before}");
    assert!(reason(&before).contains("trust.repositories"), "{before}");
    // Not even where the tag has brought the index here before.
    assert_forged(&mount_off(&node, &by_tag, "tag"));
    let (directory, said) = mount_aloud(&node, &by_digest, "digest");
    assert!(said.contains("policy strict"), "{said}");
    assert_honest(&directory);
    let after = layer(&node, &by_digest);
    assert_eq!(index(&after), ("built", "trusted"), "{after}");
    assert!(reason(&after).contains("policy strict"), "{after}");
}

#[test]
fn the_configuration_makes_a_repository_strict() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("configured");
    let reference = image.push(&registry, "configured/image");
    image.attach(&reference, &image.forged_index(), |_| {});
    let host = registry.host();
    let node = Node::with_config(&format!(
        "[trust.repositories]\n\"{host}/configured\" = \"strict\"\n"
    ));
    assert!(reason(&layer(&node, &reference)).contains("policy strict"));
    assert_honest(&mount_off(&node, &reference, "mounted"));
}

#[test]
fn an_honest_index_becomes_trusted_and_serves_other_repositories() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("honest");
    let reference = image.push(&registry, "honest/image");
    let other = image.push(&registry, "other/image");
    Node::new().brisk(&["index", "push", &reference]);

    let node = Node::new();
    let directory = mount_off(&node, &reference, "mounted");
    assert_eq!(trust(&node), "unclosed");
    node.brisk(&["pull", &reference]);
    until("the pulled layer to be trusted", LIMIT, || {
        trust(&node) == "trusted"
    });
    assert_honest(&directory);
    assert_eq!(index(&layer(&node, &other)), ("local", "trusted"));

    let background = Node::new();
    let directory = background.mount(&[&reference], "mounted");
    until("the background to close the layer", LIMIT, || {
        trust(&background) == "trusted"
    });
    assert_honest(&directory);
}

#[test]
fn a_forged_index_is_poisoned_by_the_background_and_new_mounts_fetch_anew() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("poisoned");
    let reference = image.push(&registry, "poisoned/image");
    image.attach(&reference, &image.forged_index(), |_| {});

    let node = Node::new();
    let directory = node.mount(&[&reference], "mounted");
    until("the layer to be poisoned", LIMIT, || {
        trust(&node) == "poisoned"
    });
    let error = victim(&directory).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{error}");
    let (anew, said) = mount_aloud(&node, &reference, "anew");
    assert_honest(&anew);
    assert!(said.contains("contradict"), "{said}");
    let after = layer(&node, &reference);
    assert_eq!(index(&after), ("built", "trusted"), "{after}");
    assert!(reason(&after).contains("contradict"), "{after}");
    // The mount that believed it does not come back to life.
    assert!(victim(&directory).is_err());
}

#[test]
fn what_arrived_whole_is_decided_when_its_mount_ends() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("ended");
    let honest = image.push(&registry, "ended/honest");
    Node::new().brisk(&["index", "push", &honest]);
    let forged = image.push(&registry, "ended/forged");
    image.attach(&forged, &image.forged_index(), |_| {});

    // Nothing fetches in the background; one read brings the only chunk.
    let node = Node::new();
    let directory = mount_off(&node, &honest, "honest");
    assert_honest(&directory);
    assert_eq!(trust(&node), "unclosed");
    node.brisk(&["umount", directory.to_str().unwrap()]);
    until("the layer to be closed", LIMIT, || {
        index(&layer(&node, &honest)).1 == "trusted"
    });

    let node = Node::new();
    let directory = mount_off(&node, &forged, "forged");
    assert_forged(&directory);
    assert_eq!(trust(&node), "unclosed");
    node.brisk(&["umount", directory.to_str().unwrap()]);
    until("the index to be refused", LIMIT, || {
        reason(&layer(&node, &forged)).contains("contradict")
    });
    assert_honest(&mount_off(&node, &forged, "anew"));
}

/// A node whose cache holds a fraction of the small image's layer.
fn cramped_node() -> Node {
    Node::with_config("[cache]\nbudget = \"128KiB\"\n")
}

#[test]
fn an_honest_index_becomes_trusted_where_the_layer_has_no_room() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("cramped");
    let reference = image.push(&registry, "cramped/honest");
    let other = image.push(&registry, "cramped/other");
    Node::new().brisk(&["index", "push", &reference]);

    let node = cramped_node();
    let off = mount_off(&node, &reference, "off");
    assert_honest(&off);
    assert_eq!(trust(&node), "unclosed");
    node.brisk(&["umount", off.to_str().unwrap()]);
    let directory = node.mount(&["--background", "full", &reference], "mounted");
    until("the layer to be closed in passing", LIMIT, || {
        trust(&node) == "trusted"
    });
    assert_honest(&directory);
    let closed = layer(&node, &other);
    assert_eq!(index(&closed), ("local", "trusted"));
    let present = closed["bytes_present"].as_u64().unwrap();
    assert!(present <= 128 << 10, "{closed}");
}

#[test]
fn a_forged_index_is_poisoned_where_the_layer_has_no_room() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("cramped forgery");
    let reference = image.push(&registry, "cramped/forged");
    image.attach(&reference, &image.forged_index(), |_| {});

    let node = cramped_node();
    let directory = node.mount(&["--background", "full", &reference], "mounted");
    until("the index to be poisoned in passing", LIMIT, || {
        trust(&node) == "poisoned"
    });
    let error = victim(&directory).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{error}");
    let (anew, said) = mount_aloud(&node, &reference, "anew");
    assert_honest(&anew);
    let identity = index_format::Index::open(image.forged_index())
        .unwrap()
        .digest();
    assert!(said.contains("contradict"), "{said}");
    assert!(said.contains(&identity.to_string()), "{said}");
    assert_eq!(index(&layer(&node, &reference)), ("built", "trusted"));
}

#[test]
fn what_arrived_whole_before_the_service_was_killed_is_decided_by_the_next_one() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("killed");
    let honest = image.push(&registry, "killed/honest");
    Node::new().brisk(&["index", "push", &honest]);
    let forged = image.push(&registry, "killed/forged");
    image.attach(&forged, &image.forged_index(), |_| {});

    for (reference, decision) in [(&honest, "trusted"), (&forged, "poisoned")] {
        let node = Node::new();
        let directory = mount_off(&node, reference, "mounted");
        victim(&directory).unwrap();
        assert_eq!(trust(&node), "unclosed");
        let service = nix::unistd::Pid::from_raw(node.service());
        nix::sys::signal::kill(service, nix::sys::signal::Signal::SIGKILL).unwrap();
        until("the next service to decide", LIMIT, || {
            trust(&node) == decision
        });
        assert_eq!(victim(&directory).is_ok(), decision == "trusted");
    }
}

#[test]
fn a_forged_index_is_poisoned_by_a_pull() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("pulled");
    let reference = image.push(&registry, "pulled/image");
    image.attach(&reference, &image.forged_index(), |_| {});

    let node = Node::new();
    let directory = mount_off(&node, &reference, "mounted");
    assert_forged(&directory);
    let output = node.try_brisk(&["pull", &reference]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("contradicts"), "{output:?}");
    assert_eq!(trust(&node), "poisoned");
    let error = victim(&directory).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{error}");
    node.brisk(&["umount", directory.to_str().unwrap()]);
    assert_honest(&mount_off(&node, &reference, "anew"));
    node.brisk(&["pull", &reference]);
}

#[test]
fn an_unreadable_index_never_stops_a_start_and_is_named() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("unreadable");
    let index_bytes = image.forged_index();
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 3] = [
        ("version", |hot| hot[MAJOR_OFFSET] = 77),
        ("magic", |hot| hot[0] ^= 0xff),
        ("truncated", |hot| hot.truncate(hot.len() / 2)),
    ];
    for (name, change) in changes {
        let reference = image.push(&registry, &format!("{name}/image"));
        image.attach(&reference, &index_bytes, change);
        let node = Node::new();
        let identity = index_format::Index::open(index_bytes.clone())
            .unwrap()
            .digest();
        let before = layer(&node, &reference);
        assert!(
            reason(&before).contains(&identity.to_string()),
            "{name}: {before}"
        );
        assert_eq!(before["lazy"], false, "{name}: {before}");
        let (directory, said) = mount_aloud(&node, &reference, "mounted");
        assert!(said.contains(&identity.to_string()), "{name}: {said}");
        assert_honest(&directory);
        let after = layer(&node, &reference);
        assert!(
            reason(&after).contains(&identity.to_string()),
            "{name}: {after}"
        );
        if name == "version" {
            assert!(reason(&after).contains("77"), "{after}");
        }
    }

    let reference = image.push(&registry, "table/image");
    let artifact = image.attach_without_table(&reference).to_string();
    let node = Node::new();
    let (directory, said) = mount_aloud(&node, &reference, "mounted");
    assert!(said.contains(&artifact), "{said}");
    assert_honest(&directory);
    assert!(reason(&layer(&node, &reference)).contains(&artifact));
}

/// The options of a mount, by the kernel.
fn options(directory: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .rfind(|fields| Path::new(fields[1]) == directory);
    let options = line.expect("it is mounted")[3];
    options.split(',').map(str::to_owned).collect()
}

#[test]
fn what_an_image_carries_changes_nothing_on_the_host() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("host");
    let reference = image.push(&registry, "host/image");
    Node::new().brisk(&["index", "push", &reference]);

    let node = Node::new();
    let directory = mount_off(&node, &reference, "mounted");
    let has = |directory: &Path, option: &str| options(directory).iter().any(|o| o == option);
    for option in ["ro", "nosuid", "nodev"] {
        assert!(has(&directory, option), "{option}");
    }
    let error = std::fs::read(directory.join("dev/zero")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EACCES), "{error}");
    let error = std::fs::write(directory.join("new"), b"").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EROFS), "{error}");
    let asked = node.mount(
        &["--suid", "--dev", "--background", "off", &reference],
        "asked",
    );
    assert!(has(&asked, "ro") && !has(&asked, "nosuid") && !has(&asked, "nodev"));

    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(directory.join("marked"), &mut names).unwrap();
    assert_eq!(text(&names[..length]), "user.kept\0");
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        let mut value = [0; 16];
        let error = rustix::fs::lgetxattr(directory.join("marked"), name, &mut value);
        assert_eq!(error, Err(rustix::io::Errno::NODATA), "{name}");
    }
    // overlayfs would take it for the mark of a removed file.
    assert!(std::fs::symlink_metadata(directory.join("dev/whiteout")).is_err());
}
