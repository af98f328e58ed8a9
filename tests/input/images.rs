//! Images that cannot be had.

use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::registry::DockerRegistry;
use crate::support::run;
use crate::traces::{fails, fails_everywhere};

#[test]
fn unknown_images() {
    let lab = Lab::unindexed("zoo");
    let host = lab.registry.host();
    let (repository, tag) = (format!("{host}/nope"), format!("{host}/tests/image:nope"));
    fails_everywhere(
        &lab.node,
        &repository,
        &[&host, "nope", "404", "hint: check the spelling"],
    );
    fails_everywhere(
        &lab.node,
        &tag,
        &["nope", "404", "hint: check the spelling"],
    );
    let digest = format!("{host}/tests/image@sha256:{}", "0".repeat(64));
    fails_everywhere(&lab.node, &digest, &[&"0".repeat(64), "404"]);
    let missing = format!("oci:{}:latest", lab.node.path("missing").display());
    fails_everywhere(&lab.node, &missing, &["missing"]);
    fails(&lab.node, &["inspect", &repository], 1);
    fails(&lab.node, &["index", "push", &repository], 1);
    fails(&lab.node, &["rmi", &repository], 1);
}

#[test]
fn malformed_references() {
    let node = Node::new();
    for reference in [
        "",
        "lower/UPPER",
        "a//b",
        "host:port/x",
        "x:",
        "x@sha256:12",
        "oci:",
    ] {
        let failed = fails(&node, &["run", reference, "true"], 125);
        assert!(failed.err.contains(reference), "{reference}: {failed:?}");
    }
}

#[test]
fn unreachable_registries() {
    let node = Node::new();
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let image = format!("{address}/some/image");
    let words = [
        address.to_string(),
        "refused".to_owned(),
        "hint:".to_owned(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    fails_everywhere(&node, &image, &words);
    let unknown = fails(&node, &["run", "no-such-host.invalid/image", "true"], 125);
    assert!(unknown.err.contains("no-such-host.invalid"), "{unknown:?}");
}

#[test]
fn platforms_that_the_image_has_not() {
    let lab = Lab::unindexed("zoo");
    let failed = fails(
        &lab.node,
        &["run", "--platform", "linux/s390x", &lab.image, "true"],
        125,
    );
    for word in ["tests/image", "linux/s390x", "linux/amd64", "--platform"] {
        assert!(failed.err.contains(word), "{word}: {failed:?}");
    }
    for platform in ["linux/", "a/b/c/d", "/"] {
        let failed = fails(&lab.node, &["pull", "--platform", platform, &lab.image], 1);
        assert!(failed.err.contains(platform), "{failed:?}");
    }
}

#[test]
fn credentials() {
    let registry = DockerRegistry::start_guarded();
    let image = registry.push_as("zoo", "tests/image", &["--dest-creds", "tester:secret"]);
    let node = Node::new();
    fails_everywhere(&node, &image, &["tests/image", "401", "hint: log in"]);
    let log_in = |auth: &str| {
        let text = format!(
            r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#,
            registry.host()
        );
        std::fs::write(node.directory("docker").join("config.json"), text).unwrap();
    };
    // tester:wrong
    log_in("dGVzdGVyOndyb25n");
    fails_everywhere(&node, &image, &["tests/image", "401", "hint: log in"]);
    // tester:secret
    log_in("dGVzdGVyOnNlY3JldA==");
    let output = run(&mut node.command(["run", "--rm", &image]));
    assert_eq!(output.stdout, b"READY zoo\n");
    std::fs::write(node.path("docker/config.json"), "{ not json").unwrap();
    let other = registry.push_as("zoo", "tests/other", &["--dest-creds", "tester:secret"]);
    fails(&node, &["run", &other, "true"], 125);
}
