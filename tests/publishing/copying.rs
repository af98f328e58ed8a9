//! `brisk copy` and `brisk push`.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::link::ShapedLink;
use crate::support::node::Node;
use crate::support::platforms::for_platforms;
use crate::support::registry::{DockerRegistry, until};
use crate::support::{done, images, text};
use crate::{all_are, digest_of};

#[test]
fn an_image_goes_round_with_what_is_attached_to_it() {
    let (one, two) = (DockerRegistry::start(), DockerRegistry::start());
    let node = Node::new();
    let layout = format!("oci:{}", images::layout("zoo").display());
    let first = format!("{}/team/zoo:v1", one.host());
    let said = text(&node.brisk(&["push", &layout, &first]).stdout);
    assert!(said.contains("6 blobs sent"), "{said}");
    node.brisk(&["index", "push", &first]);
    let digest = digest_of(&first);

    let directory = node.path("layout");
    let in_directory = format!("oci:{}:v1", directory.display());
    let in_archive = format!("oci-archive:{}:v1", node.path("image.tar").display());
    let second = format!("{}/other/zoo:v2", two.host());
    let neighbour = format!("{}/other/zoo:v3", one.host());
    for (from, to, sent) in [
        (&first, &in_directory, "8 blobs sent"),
        (&in_directory, &in_archive, "8 blobs sent"),
        (&in_archive, &second, "8 blobs sent"),
        // The registry takes them from its own repository; a second time there is nothing to do.
        (&first, &neighbour, "0 blobs sent"),
        (&first, &in_directory, "0 blobs sent"),
        (&second, &second, "0 blobs sent"),
    ] {
        let said = text(&node.brisk(&["copy", from, to]).stdout);
        for word in [sent, digest.as_str(), "1 attached"] {
            assert!(said.contains(word), "{from} to {to}: {word}: {said}");
        }
    }
    assert!(!directory.join(".partial").exists());
    for copied in [&second, &neighbour] {
        assert_eq!(digest_of(copied), digest);
        all_are(&Node::new(), copied, "referrer", "unclosed");
    }
    all_are(&Node::new(), &in_directory, "referrer", "unclosed");
    // Without what is attached.
    let bare = format!("{}/bare/zoo:v1", two.host());
    node.brisk(&["copy", "--no-referrers", &first, &bare]);
    all_are(&Node::new(), &bare, "none", "none");
}

#[test]
fn what_this_root_has_resolved_is_pushed_by_its_digest() {
    let registry = DockerRegistry::start();
    let image = registry.push("zoo", "tests/image");
    let node = Node::new();
    let to = format!("{}/pushed/image:v1", registry.host());
    let unknown = done(&node.command(["push", &image, &to]));
    assert_eq!(unknown.code, 1, "{unknown:?}");
    for word in ["not known here", "brisk copy", &image] {
        assert!(unknown.err.contains(word), "{word}: {unknown:?}");
    }
    node.brisk(&["pull", &image]);
    let before = digest_of(&image);
    // The tag moves; what is here stays what is pushed.
    registry.push("zoo-zstd", "tests/image");
    assert_ne!(digest_of(&image), before);
    node.brisk(&["push", &image, &to]);
    assert_eq!(digest_of(&to), before);
}

#[test]
fn all_platforms_or_one() {
    let registry = DockerRegistry::start();
    let node = Node::new();
    let directory = node.path("many");
    let digests = for_platforms(
        &directory,
        &[
            json!({"os": "linux", "architecture": "amd64"}),
            json!({"os": "linux", "architecture": "arm64", "variant": "v8"}),
        ],
    );
    let from = format!("oci:{}:latest", directory.display());
    let all = format!("{}/all/image:v1", registry.host());
    let said = text(&node.brisk(&["copy", &from, &all]).stdout);
    assert!(said.contains("3 manifests"), "{said}");
    let index = fs::read(directory.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(
        digest_of(&all),
        index["manifests"][0]["digest"].as_str().unwrap()
    );
    let one = format!("{}/one/image:v1", registry.host());
    node.brisk(&["copy", "--platform", "linux/arm64", &all, &one]);
    assert_eq!(digest_of(&one), digests[1]);
    let none = done(&node.command(["copy", "--platform", "linux/s390x", &all, &one]));
    assert_eq!(none.code, 1, "{none:?}");
    for word in ["linux/s390x", "linux/arm64", "--platform"] {
        assert!(none.err.contains(word), "{word}: {none:?}");
    }
    assert_eq!(digest_of(&one), digests[1]);
}

#[test]
fn an_interrupted_copy_leaves_no_image_and_goes_on() {
    let registry = DockerRegistry::start();
    let image = registry.push("python", "tests/image");
    let compressed: u64 = images::layer_blobs("python")
        .iter()
        .map(|(_, file)| fs::metadata(file).unwrap().len())
        .sum();
    let link = ShapedLink::start(registry.address(), 5, 40);
    let through = image.replace(&registry.host(), &link.host());
    let node = Node::new();
    let directory = node.path("layout");
    let to = format!("oci:{}:v1", directory.display());
    let archive = node.path("image.tar");
    let in_archive = format!("oci-archive:{}", archive.display());
    fs::write(&archive, "an older one").unwrap();
    for to in [&in_archive, &to] {
        let before = link.fetched();
        let mut command = node.command(["copy", &through, to]);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        until("half of the image", Duration::from_secs(120), || {
            link.fetched() > before + compressed / 2
        });
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
    assert_eq!(fs::read(&archive).unwrap(), b"an older one");
    let left: Vec<_> = fs::read_dir(node.path("")).unwrap().flatten().collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains("partial"))
    );
    let index = fs::read_to_string(directory.join("index.json")).unwrap();
    assert!(index.contains("\"manifests\":[]"), "{index}");
    let before = link.fetched();
    node.brisk(&["copy", &through, &to]);
    let again = link.fetched() - before;
    assert!(
        again < compressed * 3 / 4,
        "{again} of {compressed} bytes were fetched again"
    );
    let there = format!("{}/back/image:v1", registry.host());
    node.brisk(&["copy", &to, &there]);
    assert_eq!(digest_of(&there), digest_of(&image));
}

#[test]
fn damaged_content_is_never_taken_for_the_image() {
    let registry = DockerRegistry::start();
    let image = registry.push("zoo", "tests/image");
    let (layer, _) = images::layer_blobs("zoo").remove(0);
    let file = registry.blob_file(&layer);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let node = Node::new();
    let directory = node.path("layout");
    let archive = node.path("image.tar");
    let other = DockerRegistry::start();
    let there = format!("{}/copied/image:v1", other.host());
    for to in [
        format!("oci:{}", directory.display()),
        format!("oci-archive:{}", archive.display()),
        there.clone(),
    ] {
        let failed = done(&node.command(["copy", &image, &to]));
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.err.contains(&layer), "{failed:?}");
    }
    let hex = layer.strip_prefix("sha256:").unwrap();
    assert!(!directory.join("blobs/sha256").join(hex).exists());
    assert!(!archive.exists());
    let absent = done(&node.command(["inspect", &there]));
    assert!(absent.err.contains("404"), "{absent:?}");
}

#[test]
fn places_that_are_none() {
    let registry = DockerRegistry::start();
    let image = registry.push("zoo", "tests/image");
    let node = Node::new();
    let full = node.directory("full");
    fs::write(full.join("file"), "").unwrap();
    let full = format!("oci:{}", full.display());
    let digest = format!("{}/x/y@{}", registry.host(), digest_of(&image));
    let no_archive = node.path("text");
    fs::write(&no_archive, "text").unwrap();
    let no_archive = format!("oci-archive:{}", no_archive.display());
    let fresh = format!("oci:{}", node.path("fresh").display());
    for (from, to, words) in [
        (
            image.as_str(),
            full.as_str(),
            &["not an OCI image layout", "full"][..],
        ),
        (&image, &digest, &["names a digest", "hint:"]),
        (&image, "127.0.0.1:1/UPPER", &["127.0.0.1:1/UPPER"]),
        (&image, "oci:", &["oci:"]),
        (&no_archive, &fresh, &["text"]),
        ("oci:/nonexistent", &fresh, &["/nonexistent"]),
        ("127.0.0.1:1/x", &fresh, &["127.0.0.1:1", "hint:"]),
    ] {
        let failed = done(&node.command(["copy", from, to]));
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(!failed.err.contains("panicked"), "{failed:?}");
        for word in words {
            assert!(failed.err.contains(word), "{word}: {failed:?}");
        }
    }
    assert!(!node.path("fresh").exists());
    let failed = done(&node.command(["push", &image, &fresh]));
    assert!(failed.err.contains("not in a registry"), "{failed:?}");
}
