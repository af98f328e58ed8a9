//! Packs on the whole product: recorded on one node, pushed, used by a node that has nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use brisk_image::Query;
use brisk_image::pack::{self, PackPlace};
use brisk_image::platform::Platform;
use brisk_image::trust::Policy;
use brisk_registry::{Client, ClientConfig, ImageSource, Source};

use crate::support::gateway::{Answer, Gateway, Request};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::{Done, done, images};

const SCRIPT: &str = "sha256sum /zoo/large /zoo/random";

/// The registry has the image, its indexes and the pack of the script.
struct Packed {
    lab: Lab,
    output: String,
    place: PackPlace,
    inspected: serde_json::Value,
}

fn packed() -> Packed {
    let lab = Lab::new("zoo");
    let words = [
        "record",
        "--background",
        "off",
        &lab.image,
        "sh",
        "-c",
        SCRIPT,
    ];
    let recorded = lab.brisk(&words);
    assert_eq!(recorded.code, 0, "{recorded:?}");
    let push = || lab.brisk(&["pack", "push", &lab.image, "sh", "-c", SCRIPT]);
    let pushed = push();
    assert!(pushed.out.starts_with("attached sha256:"), "{pushed:?}");
    let again = push();
    assert!(again.out.starts_with("already attached"), "{again:?}");
    let inspected = lab.brisk(&["pack", "inspect", "--json", &lab.image]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected.out).unwrap();
    let place = serde_json::from_value(inspected[0].clone()).unwrap();
    Packed {
        output: recorded.out,
        inspected,
        lab,
        place,
    }
}

/// Runs the script on a node that has nothing, by way of a gateway.
fn start(node: &Node, gateway: &Gateway, repository: &str) -> Done {
    let image = format!("{}/{repository}:latest", gateway.host());
    let words = [
        "run",
        "--rm",
        "--background",
        "off",
        &image,
        "sh",
        "-c",
        SCRIPT,
    ];
    done(&node.command(words))
}

fn is_of_layer(request: &Request) -> bool {
    let layers: Vec<String> = images::layer_blobs("zoo")
        .into_iter()
        .map(|(digest, _)| digest)
        .collect();
    request.is_blob()
        && request
            .digest()
            .is_some_and(|digest| layers.iter().any(|l| l == digest))
}

#[test]
fn a_fresh_node_starts_with_a_pack_in_few_requests() {
    let packed = packed();
    let inspected = &packed.inspected;
    assert_eq!(inspected.as_array().unwrap().len(), 1, "{inspected:#}");
    assert!(
        inspected[0]["leaves"].as_u64().unwrap() > 10,
        "{inspected:#}"
    );
    assert!(inspected[0]["problem"].is_null(), "{inspected:#}");
    let gateway = Gateway::start(packed.lab.registry.address(), |_| Answer::Pass);
    let node = Node::new();
    let started = start(&node, &gateway, "tests/image");
    assert_eq!(
        (started.code, &started.out),
        (0, &packed.output),
        "{started:?}"
    );
    let of_pack = gateway.count(|r| r.is_blob() && r.digest() == Some(&packed.place.blob));
    assert_eq!(of_pack, 1);
    // What the kernel reads ahead is not the same each time.
    let of_layers = gateway.count(is_of_layer);
    let counters = node.status()["counters"].clone();
    assert!(
        of_layers <= 3,
        "{of_layers} requests for layers, {counters:#}"
    );
    // Without it each chunk is asked for.
    let other = Node::new();
    let image = format!("{}/tests/image:latest", gateway.host());
    let flags = ["run", "--rm", "--background", "off", &image, "sh", "-c"];
    let script = format!("{SCRIPT} ");
    let words = [&flags[..], &[&script]].concat();
    assert_eq!(done(&other.command(words)).out, packed.output);
    let without = gateway.count(is_of_layer) - of_layers;
    assert!(
        without > 5 && without > of_layers,
        "{without} requests without the pack"
    );
    // A second start finds everything here.
    let before = gateway.seen().len();
    assert_eq!(start(&node, &gateway, "tests/image").out, packed.output);
    assert_eq!(gateway.seen().len(), before);
}

#[test]
fn a_pack_cut_short_or_spoilt_in_the_registry_costs_only_its_bytes() {
    let packed = packed();
    let file = packed.lab.registry.blob_file(&packed.place.blob);
    let whole = std::fs::read(&file).unwrap();
    let mut spoilt = whole.clone();
    let length = spoilt.len();
    spoilt[length / 2..length / 2 + 100].fill(0x55);
    let mut bad_table = whole.clone();
    bad_table[100] ^= 1;
    let cases = HashMap::from([
        ("cut", whole[..length / 2].to_vec()),
        ("spoilt", spoilt),
        ("table", bad_table),
        ("empty", Vec::new()),
    ]);
    for (name, content) in cases {
        std::fs::write(&file, content).unwrap();
        let gateway = Gateway::start(packed.lab.registry.address(), |_| Answer::Pass);
        let started = start(&Node::new(), &gateway, "tests/image");
        assert_eq!(
            (started.code, &started.out),
            (0, &packed.output),
            "{name}: {started:?}"
        );
    }
}

#[test]
fn a_pack_of_another_image_is_of_no_harm() {
    let packed = packed();
    let registry = &packed.lab.registry;
    let other = registry.push("zoo-zstd", "tests/other");
    let publisher = Node::new();
    publisher.brisk(&["index", "push", &other]);
    let content = std::fs::read(registry.blob_file(&packed.place.blob)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let source: Source = other.parse().unwrap();
        let query = Query {
            elsewhere: None,
            keys: Vec::new(),
            trusted_only: false,
            manifest: None,
            reference: source.to_string(),
            source: ImageSource::new(Client::new(ClientConfig::default()), source),
            platform: Platform::host(),
            policy: Policy::Registry,
            refresh: true,
        };
        let pushed = pack::push(&query, &packed.place, content).await.unwrap();
        assert!(pushed.is_some());
    });
    let gateway = Gateway::start(registry.address(), |_| Answer::Pass);
    let node = Node::new();
    let started = start(&node, &gateway, "tests/other");
    assert_eq!(
        (started.code, &started.out),
        (0, &packed.output),
        "{started:?}"
    );
    let of_pack = gateway.count(|r| r.is_blob() && r.digest() == Some(&packed.place.blob));
    assert_eq!(of_pack, 1, "it was looked at");
}

#[test]
fn a_registry_that_loses_the_pack_in_the_middle_is_done_without() {
    let packed = packed();
    let blob = packed.place.blob.clone();
    let (seen, cut) = (AtomicBool::new(false), packed.place.size as usize / 3);
    let gateway = Gateway::start(packed.lab.registry.address(), move |request| {
        match request.is_blob() && request.digest() == Some(&blob) {
            false => Answer::Pass,
            true if seen.swap(true, Ordering::SeqCst) => Answer::status(503),
            true => Answer::Cut(cut),
        }
    });
    let started = start(&Node::new(), &gateway, "tests/image");
    assert_eq!(
        (started.code, &started.out),
        (0, &packed.output),
        "{started:?}"
    );
    // Into how many requests the rest is merged is the planner's own affair.
    assert!(gateway.count(is_of_layer) > 0);
}
