//! What the daemon tells its monitoring.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::daemon::{Daemon, LIMIT};
use super::support::containerd::Containerd;
use super::support::node::Node;
use super::support::registry::DockerRegistry;

/// Head and body of the answer to a GET.
fn get(socket: &Path, path: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: brisk\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|l| l.starts_with(&format!("{series} ")));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn what_a_node_does_is_told_in_numbers() {
    let registry = DockerRegistry::start();
    let reference = registry.push("zoo", "zoo");
    let mut node = Node::new();
    let socket = node.path("metrics.sock");
    node.configure(&format!(
        "[metrics]\naddress = \"unix:{}\"\n",
        socket.display()
    ));
    let daemon = Daemon::start(&node);
    let (head, body) = get(&socket, "/healthz");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, "ok\n");

    let containerd = Containerd::start(&daemon.socket);
    containerd.ctr(&["snapshots", "--snapshotter", "brisk", "prepare", "one"]);
    let again = ["snapshots", "--snapshotter", "brisk", "prepare", "one"];
    assert_ne!(containerd.try_ctr(&again).code, 0);
    let tree = node.mount(&[&reference], "tree");
    std::fs::read(tree.join("bin/busybox")).unwrap();

    let (head, text) = get(&socket, "/metrics");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let layers = registry_layers(&node, &reference);
    for (series, expected) in [
        ("brisk_mounts", 1.0),
        ("brisk_hung_reads", 0.0),
        ("brisk_verification_failures_total", 0.0),
        ("brisk_not_lazy_total{reason=\"no_index\"}", layers),
        ("brisk_not_lazy_total{reason=\"policy\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    let least = [
        "brisk_fetched_bytes_total{cause=\"metadata\"}",
        "brisk_registry_requests_total",
        "brisk_reads_total{result=\"hit\"}",
        "brisk_cache_bytes",
        "brisk_fuse_request_duration_seconds_count{operation=\"lookup\"}",
        "brisk_fuse_request_duration_seconds_count{operation=\"read\"}",
        "brisk_snapshot_call_duration_seconds_count{operation=\"Prepare\"}",
        "brisk_snapshot_calls_total{operation=\"Prepare\",code=\"Ok\"}",
    ];
    for series in least {
        assert!(value(&text, series) > 0.0, "{series}");
    }
    // Nothing is counted twice: `status` has the same numbers.
    let status = node.status();
    let counters = &status["counters"];
    let (_, text) = get(&socket, "/metrics");
    let told = value(&text, "brisk_fetched_bytes_total{cause=\"metadata\"}");
    assert_eq!(counters["metadata_bytes"].as_f64().unwrap(), told);
    let (head, _) = get(&socket, "/nothing");
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

fn registry_layers(node: &Node, reference: &str) -> f64 {
    node.inspect(reference)["layers"].as_array().unwrap().len() as f64
}
