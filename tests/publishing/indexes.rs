//! `brisk index push`.

use std::str::FromStr;

use brisk_registry::{Client, ClientConfig, ManifestTarget, Reference, media};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::gateway::{Answer, Gateway, Request};
use crate::support::node::Node;
use crate::support::platforms::for_platforms;
use crate::support::registry::DockerRegistry;
use crate::support::small::{DECOY, SmallImage, VICTIM};
use crate::support::{done, images, text};
use crate::{all_are, digest_of, indexes};

/// Whether a request changes something in the registry.
fn is_write(request: &Request) -> bool {
    !matches!(request.method.as_str(), "GET" | "HEAD")
}

/// The bytes that a request asks for of a blob.
fn asked(request: &Request) -> u64 {
    let range = request
        .header("range")
        .and_then(|r| r.strip_prefix("bytes="));
    let (first, last) = range.and_then(|range| range.split_once('-')).unwrap();
    last.parse::<u64>().unwrap() + 1 - first.parse::<u64>().unwrap()
}

#[test]
fn each_layer_is_streamed_once_and_a_second_time_nothing_is_sent() {
    let registry = DockerRegistry::start();
    let image = registry.push("python", "tests/image");
    let gateway = Gateway::start(registry.address(), |_| Answer::Pass);
    let through = image.replace(&registry.host(), &gateway.host());
    let node = Node::new();
    let said = text(&node.brisk(&["index", "push", &through]).stdout);
    assert!(said.starts_with("attached sha256:"), "{said}");
    for (digest, file) in images::layer_blobs("python") {
        let size = std::fs::metadata(file).unwrap().len();
        let seen = gateway.seen();
        let of_layer = seen
            .iter()
            .filter(|r| r.is_blob() && r.digest() == Some(&digest));
        let ranges: Vec<_> = of_layer.collect();
        let whole = ranges.iter().any(|r| r.header("range").is_none());
        let bytes = match whole {
            true => size * ranges.len() as u64,
            false => ranges.iter().map(|r| asked(r)).sum(),
        };
        assert_eq!(bytes, size, "{digest}");
    }
    assert!(gateway.count(is_write) > 0);
    // The same root has the indexes; another builds the same ones.
    for (node, streams) in [(&node, false), (&Node::new(), true)] {
        let (writes, reads) = (gateway.count(is_write), gateway.count(Request::is_blob));
        let said = text(&node.brisk(&["index", "push", &through]).stdout);
        assert!(said.starts_with("already attached sha256:"), "{said}");
        assert_eq!(gateway.count(is_write), writes);
        assert_eq!(gateway.count(Request::is_blob) > reads + 1, streams);
    }
}

#[test]
fn a_lost_entry_is_healed_by_the_next_push() {
    let registry = DockerRegistry::start();
    let image = registry.push("zoo", "tests/image");
    let node = Node::new();
    node.brisk(&["index", "push", &image]);
    let reference = Reference::from_str(&image).unwrap();
    let repository = reference.repository();
    let tag = ManifestTarget::Tag(digest_of(&image).replace(':', "-"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = Client::new(ClientConfig::default());
    let empty = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []});
    let empty = Bytes::from(empty.to_string());
    let put = client.put_manifest(repository, &tag, media::OCI_INDEX, empty);
    runtime.block_on(put).unwrap();
    all_are(&Node::new(), &image, "none", "none");
    let said = text(&node.brisk(&["index", "push", &image]).stdout);
    assert!(said.starts_with("attached"), "{said}");
    all_are(&Node::new(), &image, "referrer", "unclosed");

    // Listed, but gone: that is not taken for attached.
    let artifact: index_format::Digest = said.split(' ').nth(1).unwrap().parse().unwrap();
    let target = ManifestTarget::Digest(artifact);
    runtime
        .block_on(client.delete_manifest(repository, &target))
        .unwrap();
    let said = text(&node.brisk(&["index", "push", &image]).stdout);
    assert!(said.starts_with("attached"), "{said}");
    assert!(
        runtime
            .block_on(client.manifest_exists(repository, &target))
            .unwrap()
    );
}

#[test]
fn every_platform_has_an_artifact_of_its_own() {
    let registry = DockerRegistry::start();
    let node = Node::new();
    let directory = node.path("many");
    for_platforms(
        &directory,
        &[
            json!({"os": "linux", "architecture": "amd64"}),
            json!({"os": "linux", "architecture": "arm", "variant": "v7"}),
            json!({"os": "windows", "architecture": "amd64"}),
        ],
    );
    let layout = format!("oci:{}:latest", directory.display());
    // From the layout alone, and into it.
    let said = text(&node.brisk(&["index", "push", &layout]).stdout);
    let artifacts: Vec<&str> = said.lines().map(|l| l.split(' ').nth(1).unwrap()).collect();
    assert_eq!(artifacts.len(), 2, "{said}");
    assert_ne!(artifacts[0], artifacts[1], "{said}");
    let all = format!("{}/all/image:v1", registry.host());
    node.brisk(&["copy", &layout, &all]);
    for platform in ["linux/amd64", "linux/arm/v7"] {
        let found = indexes(&Node::new(), &all, Some(platform));
        assert!(
            found.iter().all(|(source, _)| source == "referrer"),
            "{platform}: {found:?}"
        );
    }
    let said = text(&node.brisk(&["index", "push", &all]).stdout);
    assert_eq!(said.matches("already attached").count(), 2, "{said}");
    let remote = node.brisk(&["inspect", "--remote", "--json", &all]);
    let remote: Value = serde_json::from_slice(&remote.stdout).unwrap();
    assert_eq!(remote["digest"], digest_of(&all));
    for (entry, (platform, artifact)) in [
        ("linux/amd64", Some(artifacts[0])),
        ("linux/arm/v7", Some(artifacts[1])),
        ("windows/amd64", None),
    ]
    .iter()
    .enumerate()
    {
        let entry = &remote["manifests"][entry];
        assert_eq!(entry["platform"], *platform, "{remote:#}");
        let attached = entry["attached"][0]["digest"].as_str();
        assert_eq!(attached, *artifact, "{remote:#}");
    }
    let shown = text(&node.brisk(&["inspect", "--remote", &all]).stdout);
    assert!(shown.contains("application/vnd.brisk.index.v1"), "{shown}");
    let raw = node.brisk(&["inspect", "--raw", &all]).stdout;
    assert_eq!(index_format::Digest::of(&raw).to_string(), digest_of(&all));
    // Into a registry from the layout, of one platform.
    let bare = format!("{}/bare/image:v1", registry.host());
    node.brisk(&["copy", "--no-referrers", &layout, &bare]);
    let words = [
        "index",
        "push",
        "--platform",
        "linux/arm/v7",
        "--to",
        &bare,
        &layout,
    ];
    let said = text(&node.brisk(&words).stdout);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&bare), "{said}");
    let source = |platform| indexes(&Node::new(), &bare, Some(platform)).remove(0).0;
    assert_eq!(source("linux/arm/v7"), "referrer");
    assert_eq!(source("linux/amd64"), "none");
}

#[test]
fn a_bound_index_is_vouched_for_by_the_images_digest() {
    let registry = DockerRegistry::start();
    let node = Node::new();
    let directory = node.path("many");
    for_platforms(
        &directory,
        &[
            json!({"os": "linux", "architecture": "amd64"}),
            json!({"os": "linux", "architecture": "arm64", "variant": "v8"}),
        ],
    );
    let layout = format!("oci:{}:latest", directory.display());
    let image = format!("{}/tests/image:v1", registry.host());
    node.brisk(&["copy", &layout, &image]);
    let said = text(
        &node
            .brisk(&["index", "push", "--bind=bound", &image])
            .stdout,
    );
    let bound = said.lines().last().unwrap().strip_prefix("bound ").unwrap();
    let tagged = image.replace(":v1", ":bound");
    assert_eq!(bound, format!("{tagged}@{}", digest_of(&tagged)));
    let name = image.trim_end_matches(":v1");
    let pinned = format!("{name}@{}", digest_of(&tagged));
    all_are(&Node::new(), &pinned, "bound", "trusted");
    let other = indexes(&Node::new(), &pinned, Some("linux/arm64"));
    assert!(
        other.iter().all(|(source, _)| source == "bound"),
        "{other:?}"
    );
    // The image as it was is what it was, and its digest vouches for nothing.
    let unbound = format!("{name}@{}", digest_of(&image));
    all_are(&Node::new(), &unbound, "none", "none");
    // It is really started from; the next start knows it without the registry.
    let fresh = Node::new();
    let directory = fresh.mount(&["--background", "off", &pinned], "mounted");
    assert!(directory.join("zoo/small").exists());
    all_are(&fresh, &pinned, "bound", "trusted");
    // Again is a no-op, and a copy takes along what it needs.
    let again = text(
        &node
            .brisk(&["index", "push", "--bind=bound", &image])
            .stdout,
    );
    assert_eq!(again.lines().last(), said.lines().last());
    let copied = format!("{}/copied/image:v1", registry.host());
    node.brisk(&["copy", &tagged, &copied]);
    let pinned = format!("{}@{}", copied.trim_end_matches(":v1"), digest_of(&copied));
    all_are(&Node::new(), &pinned, "bound", "trusted");
    let wrong = done(&node.command(["index", "push", "--bind=a/b", &image]));
    assert!(wrong.code == 1 && wrong.err.contains("a/b"), "{wrong:?}");
}

/// Whoever makes an image can bind what they like to it: for that image, and for no other that
/// has the same layer.
#[test]
fn a_bound_index_is_believed_for_its_own_image_alone() {
    let registry = DockerRegistry::start();
    let image = SmallImage::new("bound");
    let honest = image.push(&registry, "honest/image");
    let forged = image.push(&registry, "forged/image");
    let forged_digest = image.push_bound(&forged, &image.forged_index());
    let node = Node::new();
    let pinned = format!("{}@{forged_digest}", forged.trim_end_matches(":latest"));
    let directory = node.mount(&["--background", "off", &pinned], "forged");
    assert_eq!(std::fs::read(directory.join(VICTIM.0)).unwrap(), DECOY.1);
    let directory = node.mount(&["--background", "off", &honest], "honest");
    assert_eq!(std::fs::read(directory.join(VICTIM.0)).unwrap(), VICTIM.1);
    // Nor in the same repository, by the digest of the image that binds nothing.
    let same = format!(
        "{}@{}",
        forged.trim_end_matches(":latest"),
        image.manifest_digest()
    );
    let node = Node::new();
    node.mount(&["--background", "off", &pinned], "forged");
    let directory = node.mount(&["--background", "off", &same], "same");
    assert_eq!(std::fs::read(directory.join(VICTIM.0)).unwrap(), VICTIM.1);
}

#[test]
fn a_docker_manifest_cannot_be_bound_and_says_so() {
    let registry = DockerRegistry::start();
    let image = registry.push("zoo", "tests/image");
    let reference = Reference::from_str(&image).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = Client::new(ClientConfig::default());
    let oci = runtime.block_on(client.manifest(&reference)).unwrap();
    let mut docker: Value = serde_json::from_slice(&oci.bytes).unwrap();
    docker["mediaType"] = media::DOCKER_MANIFEST.into();
    docker["config"]["mediaType"] = media::DOCKER_CONFIG.into();
    for layer in docker["layers"].as_array_mut().unwrap() {
        layer["mediaType"] = media::DOCKER_LAYER_GZIP.into();
    }
    let docker = Bytes::from(docker.to_string());
    let target = reference.target();
    let put = client.put_manifest(
        reference.repository(),
        &target,
        media::DOCKER_MANIFEST,
        docker,
    );
    runtime.block_on(put).unwrap();
    let failed = done(&Node::new().command(["index", "push", "--bind", &image]));
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.err.contains("no annotations"), "{failed:?}");
}
