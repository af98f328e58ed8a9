//! What lazy starts fetch and share.

use std::time::Duration;

use crate::support::Done;
use crate::support::lab::Lab;
use crate::support::registry::until;

#[test]
fn a_lazy_start_fetches_a_part_of_the_image() {
    let lab = Lab::new("python");
    let done = lab.run(&["--background", "off"], &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.out, "READY 2.2.6 1 45\n");
    let counters = &lab.node.status()["counters"];
    let bytes = |name: &str| counters[name].as_u64().unwrap();
    let fetched = bytes("demand_bytes") + bytes("speculation_bytes");
    let inspected = lab.node.inspect(&lab.image);
    let layers = inspected["layers"].as_array().unwrap();
    let size: u64 = layers
        .iter()
        .map(|layer| layer["size"].as_u64().unwrap())
        .sum();
    println!(
        "fetched {fetched} of {size} bytes and {} of indexes",
        bytes("metadata_bytes")
    );
    assert!(
        fetched > 0 && fetched < size * 9 / 10,
        "fetched {fetched} of {size}"
    );
    assert_eq!(bytes("background_bytes"), 0);
    assert_eq!(bytes("verification_failures"), 0);
}

#[test]
fn containers_of_one_image_share_its_mount() {
    let lab = Lab::new("zoo");
    let ids = [
        lab.detached(&[], "sleep 1000"),
        lab.detached(&[], "sleep 1000"),
    ];
    let status = lab.node.status();
    let mounts = status["mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 1, "{status:#}");
    let holders = mounts[0]["containers"].as_array().unwrap();
    assert_eq!(holders.len(), 2);
    for id in &ids {
        assert!(
            holders.iter().any(|holder| holder == id),
            "{id} in {holders:?}"
        );
    }
    // Each has an upper of its own.
    assert_eq!(lab.brisk(&["exec", &ids[0], "touch", "/mine"]).code, 0);
    assert_eq!(lab.brisk(&["exec", &ids[1], "test", "-e", "/mine"]).code, 1);
}

#[test]
fn many_first_starts_at_once() {
    let lab = Lab::new("zoo");
    std::thread::scope(|scope| {
        for number in 0..6 {
            let lab = &lab;
            scope.spawn(move || {
                let script = format!("sha256sum /zoo/large | wc -l; exit {number}");
                let done = lab.run(&[], &["sh", "-c", &script]);
                assert_eq!((done.code, done.out.as_str()), (number, "1\n"), "{done:?}");
            });
        }
    });
}

#[test]
fn an_image_without_an_index_runs_and_then_needs_no_registry() {
    let mut lab = Lab::unindexed("zoo");
    assert_eq!(lab.run(&[], &[]).out, "READY zoo\n");
    lab.registry.stop();
    assert_eq!(lab.run(&[], &[]).out, "READY zoo\n");
    assert_eq!(lab.node.status()["counters"]["demand_bytes"], 0);
}

#[test]
fn a_timeline_tells_what_a_start_cost() {
    let lab = Lab::new("python");
    let options = ["--background", "off", "--timeline=json"];
    let timeline = |done: &Done| -> serde_json::Value {
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(done.out, "READY 2.2.6 1 45\n");
        let last = done.err.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {done:?}"))
    };
    let first = timeline(&lab.run(&options, &[]));
    let number = |value: &serde_json::Value, name: &str| value[name].as_u64().unwrap();
    let demand = &first["causes"][0];
    assert_eq!(demand["cause"], "demand");
    let (bytes, requests) = (number(demand, "bytes"), number(demand, "requests"));
    assert!(bytes > 1_000_000 && requests > 3, "{first:#}");
    assert!(number(&first, "missing_reads") > 0, "{first:#}");
    for time in [
        "resolve_us",
        "index_us",
        "mount_us",
        "stalled_us",
        "network_us",
        "decode_us",
    ] {
        assert!(number(&first, time) > 0, "{time}: {first:#}");
    }
    let exec = number(&first, "first_exec_us");
    assert!(exec < number(&first, "first_output_us"), "{first:#}");
    let prepared: u64 = ["resolve_us", "index_us", "mount_us"]
        .iter()
        .map(|name| number(&first, name))
        .sum();
    assert!(prepared < exec, "{first:#}");
    // What is local costs nothing.
    let second = timeline(&lab.run(&options, &[]));
    assert_eq!(number(&second, "resolve_us"), 0);
    assert_eq!(number(&second["causes"][0], "requests"), 0, "{second:#}");
    assert_eq!(number(&second, "stalled_us"), 0);
    // People read lines.
    let done = lab.run(&["--timeline"], &[]);
    assert!(done.err.contains("first output  at "), "{done:?}");
}

#[test]
fn what_starting_a_program_reads_is_fetched_before_it_asks() {
    let lab = Lab::new("python");
    // With this runtime no program ever reads.
    let done = lab.run(&["--background", "off", "--runtime", "/bin/false"], &[]);
    assert_ne!(done.code, 0, "{done:?}");
    let fetched = || lab.node.status()["counters"]["speculation_bytes"].as_u64();
    let limit = Duration::from_secs(60);
    until("the program's libraries", limit, || fetched() > Some(0));
}
