//! Ways to a registry: TLS with an authority of one's own, plain HTTP, proxies, platforms.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::gateway::{Answer, Gateway, Request};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::platforms::for_platforms;
use crate::support::registry::DockerRegistry;
use crate::support::{Done, done, run};

const PROXY_VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// Runs brisk with these proxy variables and no others.
fn by_proxy(node: &Node, variables: &[(&str, &str)], words: &[&str]) -> Done {
    let mut command = node.command(words);
    for name in PROXY_VARIABLES {
        command.env_remove(name);
    }
    done(command.envs(variables.iter().copied()))
}

fn ends_well(run: &Done) {
    assert_eq!((run.code, run.out.as_str()), (0, "READY zoo\n"), "{run:?}");
}

#[test]
fn an_authority_of_ones_own_is_believed() {
    let (registry, authority) = DockerRegistry::start_encrypted(&["127.0.0.1"]);
    let image = registry.push("zoo", "tests/image");
    let https = format!("[registry]\nhttps = ['{}']\n", registry.host());
    let stranger = Node::with_config(&https);
    for (words, code) in [
        (&["run", "--rm", &image][..], 125),
        (&["pull", &image], 1),
        (&["inspect", &image], 1),
    ] {
        let refused = done(&stranger.command(words));
        assert_eq!(refused.code, code, "{refused:?}");
        for word in [registry.host().as_str(), "certificate", "hint:", "ca_files"] {
            assert!(refused.err.contains(word), "{word}: {refused:?}");
        }
    }
    let config = format!("{https}ca_files = ['{}']\n", authority.display());
    let node = Node::with_config(&config);
    node.brisk(&["index", "push", &image]);
    let lazy = Node::with_config(&config);
    ends_well(&done(&lazy.command([
        "run",
        "--rm",
        "--background",
        "off",
        &image,
    ])));
    let inspected = lazy.inspect(&image);
    assert_eq!(
        inspected["layers"][0]["index"]["source"], "referrer",
        "{inspected:#}"
    );

    let missing = Node::with_config(&format!("{https}ca_files = ['/nonexistent.pem']\n"));
    let failed = done(&missing.command(["run", "--rm", &image]));
    assert_eq!(failed.code, 125, "{failed:?}");
    assert!(failed.err.contains("/nonexistent.pem"), "{failed:?}");
}

#[test]
fn plain_http_is_for_loopback_and_for_whom_it_is_asked() {
    let lab = Lab::new("zoo");
    let proxy = Gateway::start(lab.registry.address(), |_| Answer::Pass);
    let url = format!("http://{}", proxy.host());
    let image = "registry.test:5000/tests/image";
    let run = ["run", "--rm", "--background", "off"];
    let words = |further: &[&'static str]| [&run[..], further, &[image]].concat();
    // Loopback: by plain HTTP, and past the proxy.
    let local = [&run[..], &[lab.image.as_str()]].concat();
    ends_well(&by_proxy(&Node::new(), &[("HTTP_PROXY", &url)], &local));
    assert_eq!(proxy.seen().len(), 0);
    // By the flag, in either place of it, and by the configuration.
    let by_config = Node::with_config("[registry]\nplain_http = ['registry.test:5000']\n");
    for (node, words) in [
        (Node::new(), words(&["--plain-http"])),
        (Node::new(), [&["--plain-http"], &words(&[])[..]].concat()),
        (by_config, words(&[])),
    ] {
        let before = proxy.seen().len();
        ends_well(&by_proxy(&node, &[("http_proxy", &url)], &words));
        let seen = &proxy.seen()[before..];
        let through = |kind: &str| {
            let begin = format!("http://registry.test:5000/v2/tests/image/{kind}/");
            seen.iter()
                .any(|request| request.target.starts_with(&begin))
        };
        assert!(through("manifests") && through("blobs"), "{words:?}");
    }
    // Who did not ask for it gets no plain HTTP, whatever the proxy.
    let before = proxy.seen().len();
    let variables = [("HTTP_PROXY", url.as_str()), ("HTTPS_PROXY", &url)];
    let failed = by_proxy(&Node::new(), &variables, &words(&[]));
    assert_eq!(failed.code, 125, "{failed:?}");
    assert!(failed.err.contains("registry.test:5000"), "{failed:?}");
    let is_connect = |request: &Request| request.method == "CONNECT";
    assert!(proxy.seen()[before..].iter().all(is_connect));
}

#[test]
fn proxies_are_passed_by_where_they_are_told_to() {
    let lab = Lab::new("zoo");
    let proxy = Gateway::start(lab.registry.address(), |_| Answer::Pass);
    let url = format!("http://{}", proxy.host());
    let image = "registry.invalid:5000/tests/image";
    let variables = [("HTTP_PROXY", url.as_str()), ("NO_PROXY", "other,.invalid")];
    let failed = by_proxy(
        &Node::new(),
        &variables,
        &["run", "--rm", "--plain-http", image],
    );
    assert_eq!(failed.code, 125, "{failed:?}");
    assert!(failed.err.contains("registry.invalid"), "{failed:?}");
    assert_eq!(proxy.seen().len(), 0);
}

#[test]
fn tls_goes_through_a_proxy_as_it_is() {
    let (registry, authority) = DockerRegistry::start_encrypted(&["registry.test"]);
    registry.push("zoo", "tests/image");
    let proxy = Gateway::start(registry.address(), |_| Answer::Pass);
    let url = format!("http://{}", proxy.host());
    let config = format!("[registry]\nca_files = ['{}']\n", authority.display());
    let words = ["run", "--rm", "registry.test/tests/image"];
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let node = Node::with_config(&config);
        ends_well(&by_proxy(&node, &[(variable, &url)], &words));
    }
    let is_tunnel = |request: &Request| request.target == "registry.test:443";
    assert!(proxy.seen().iter().all(is_tunnel), "{:?}", proxy.seen());
    // The authority signed for another name.
    let node = Node::with_config(&config);
    let other = ["run", "--rm", "other.test/tests/image"];
    let failed = by_proxy(&node, &[("HTTPS_PROXY", &url)], &other);
    assert_eq!(failed.code, 125, "{failed:?}");
    assert!(
        failed.err.contains("other.test") && failed.err.contains("certificate"),
        "{failed:?}"
    );
}

#[test]
fn the_platform_decides_which_image_of_an_index_is_meant() {
    let registry = DockerRegistry::start();
    let node = Node::new();
    let layout = node.path("layout");
    let platforms = [
        json!({"os": "linux", "architecture": "arm", "variant": "v5"}),
        json!({"os": "linux", "architecture": "arm", "variant": "v7"}),
        json!({"os": "linux", "architecture": "arm64", "variant": "v8"}),
        json!({"os": "linux", "architecture": "amd64"}),
        json!({"os": "windows", "architecture": "amd64"}),
    ];
    let digests = for_platforms(&layout, &platforms);
    let image = format!("{}/tests/many:latest", registry.host());
    let source = format!("oci:{}:latest", layout.display());
    let target = format!("docker://{image}");
    run(Command::new("skopeo").args([
        "copy",
        "-q",
        "--all",
        "--preserve-digests",
        "--dest-tls-verify=false",
        &source,
        &target,
    ]));
    for image in [&image, &source] {
        for (platform, chosen) in [
            ("linux/arm/v5", 0),
            ("linux/arm/v6", 0),
            ("linux/arm/v7", 1),
            ("linux/arm", 1),
            ("linux/arm/v8", 1),
            ("linux/arm64", 2),
            ("linux/arm64/v8", 2),
            ("linux/amd64", 3),
        ] {
            let words = ["inspect", "--json", "--platform", platform, image];
            let inspected = done(&node.command(words));
            assert_eq!(inspected.code, 0, "{platform}: {inspected:?}");
            let inspected: Value = serde_json::from_str(&inspected.out).unwrap();
            assert_eq!(
                inspected["digest"], digests[chosen],
                "{platform}: {inspected:#}"
            );
        }
        // The files are this machine's whatever the index says of them.
        let run = ["run", "--rm", "--platform", "linux/arm/v7", image];
        ends_well(&done(&node.command(run)));
        let failed = done(&node.command(["run", "--platform", "linux/s390x", image]));
        assert_eq!(failed.code, 125, "{failed:?}");
        for word in ["linux/s390x", "linux/arm/v7", "linux/amd64", "--platform"] {
            assert!(failed.err.contains(word), "{word}: {failed:?}");
        }
    }
}
