//! `publish.auto`: nodes that publish what they had to index themselves, and those that do not.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::gateway::{Answer, Gateway, Request};
use crate::support::node::Node;
use crate::support::registry::{DockerRegistry, until};
use crate::support::{images, run, text};
use crate::{all_are, digest_of, indexes};

const LIMIT: Duration = Duration::from_secs(60);

fn is_write(request: &Request) -> bool {
    !matches!(request.method.as_str(), "GET" | "HEAD")
}

fn is_referrer_listed(node: &Node, reference: &str) -> bool {
    indexes(node, reference, None)
        .iter()
        .all(|(source, _)| source == "referrer")
}

#[test]
fn a_start_pushes_nothing_unless_it_is_asked_to() {
    let registry = DockerRegistry::start();
    let image = registry.push("zoo", "tests/image");
    let gateway = Gateway::start(registry.address(), |_| Answer::Pass);
    let through = image.replace(&registry.host(), &gateway.host());
    let node = Node::new();
    node.brisk(&["pull", &through]);
    let directory = node.mount(&[&through], "mounted");
    assert!(directory.join("zoo/small").exists());
    node.brisk(&["umount", directory.to_str().unwrap()]);
    node.brisk(&["service-stop"]);
    assert_eq!(gateway.count(is_write), 0);
    all_are(&Node::new(), &image, "none", "none");
}

#[test]
fn the_node_that_pulled_publishes_for_everyone_else() {
    let registry = DockerRegistry::start();
    let image = registry.push("zoo", "tests/image");
    let gateway = Gateway::start(registry.address(), |_| Answer::Pass);
    let through = image.replace(&registry.host(), &gateway.host());
    let config = "[publish]\nauto = true\ndelay = \"1s\"\n";
    let node = Node::with_config(config);
    node.brisk(&["pull", &through]);
    let other = Node::new();
    until("the index to be attached", LIMIT, || {
        is_referrer_listed(&other, &image)
    });
    // It was not fetched again for that.
    for (digest, _) in images::layer_blobs("zoo") {
        let whole = |r: &Request| r.is_blob() && r.digest() == Some(digest.as_str());
        assert_eq!(gateway.count(whole), 1, "{digest}");
    }
    // Another one looks first, and has nothing to do; nor has this one, the next time.
    let writes = gateway.count(is_write);
    let strict = Node::with_config(&format!(
        "{config}[trust.repositories]\n'{}' = 'strict'\n",
        gateway.host()
    ));
    let looks = || gateway.count(|r: &Request| r.target.contains("/referrers/"));
    let before = looks();
    strict.brisk(&["pull", &through]);
    until("it to have looked", LIMIT, || looks() >= before + 2);
    node.brisk(&["pull", &through]);
    strict.brisk(&["service-stop"]);
    node.brisk(&["service-stop"]);
    assert_eq!(gateway.count(is_write), writes);
}

#[test]
fn without_the_right_to_push_it_is_said_once() {
    let open = DockerRegistry::start();
    let image = open.push("zoo", "tests/image");
    let gateway = Gateway::start(open.address(), |request: &Request| {
        match is_write(request) {
            true => Answer::status(403),
            false => Answer::Pass,
        }
    });
    let through = image.replace(&open.host(), &gateway.host());
    let node = Node::with_config("[publish]\nauto = true\ndelay = \"0s\"\n");
    node.brisk(&["pull", &through]);
    let refusals = node.root().join("publish-refused");
    until("the refusal", LIMIT, || refusals.exists());
    let mut said = Vec::new();
    for _ in 0..2 {
        let output = node.brisk(&["pull", &through]);
        said.push(text(&output.stderr));
    }
    let about = "publish.auto";
    assert_eq!(said.concat().matches(about).count(), 1, "{said:?}");
    for word in [gateway.host().as_str(), "403", "[publish]"] {
        assert!(said.concat().contains(word), "{word}: {said:?}");
    }
}

#[test]
fn another_repository_takes_the_indexes_where_one_is_configured() {
    let (registry, other) = (DockerRegistry::start(), DockerRegistry::start());
    let image = registry.push("python", "tests/image");
    let gateway = Gateway::start(registry.address(), |_| Answer::Pass);
    let through = image.replace(&registry.host(), &gateway.host());
    let publisher = Node::new();
    let key = publisher.path("key").display().to_string();
    publisher.brisk(&["key", "generate", &key]);
    let elsewhere = format!("[publish]\nrepository = '{}/our/indexes'\n", other.host());
    let node = Node::with_config(&format!(
        "{elsewhere}auto = true\ndelay = '0s'\nkey = '{key}'\n"
    ));
    node.brisk(&["pull", &through]);
    let reader = Node::with_config(&elsewhere);
    until("the index to be attached", LIMIT, || {
        is_referrer_listed(&reader, &through)
    });
    assert_eq!(gateway.count(is_write), 0);
    all_are(&Node::new(), &through, "none", "none");
    // Its cold sections are there as well: what is read needs checkpoints.
    let directory = reader.mount(&["--background", "off", &through], "mounted");
    let unpacked = images::unpacked("python");
    compare(&directory, &unpacked, "usr");
    // By digest it takes the key that signed them.
    let pinned = format!(
        "{}@{}",
        through.rsplit_once(':').unwrap().0,
        digest_of(&image)
    );
    all_are(&Node::with_config(&elsewhere), &pinned, "none", "none");
    let keys = format!("[trust.keys]\n'{}' = ['{key}.pub']\n", gateway.host());
    all_are(
        &Node::with_config(&format!("{elsewhere}{keys}")),
        &pinned,
        "referrer",
        "trusted",
    );
}

/// Two trees have the same files with the same content.
fn compare(one: &Path, other: &Path, below: &str) {
    run(Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([one.join(below), other.join(below)]));
}
