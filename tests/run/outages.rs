//! The service dies under a running container.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use crate::support::images;
use crate::support::lab::Lab;
use crate::support::node::mounts_below;
use crate::support::registry::until;
use crate::support::stopped::Stopped;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_killed_service_costs_a_container_nothing() {
    let lab = Lab::new("zoo");
    let script =
        "echo up; until test -e /go; do sleep 0.1; done; sha256sum /zoo/random; cat /zoo/small";
    lab.detached(&["--name", "reader", "--background", "off"], script);
    until("its start", Duration::from_secs(60), || {
        lab.brisk(&["logs", "reader"]).out == "up\n"
    });
    let first = lab.node.status()["pid"].as_i64().unwrap();
    kill(Pid::from_raw(first as i32), Signal::SIGKILL).unwrap();

    assert_eq!(lab.brisk(&["exec", "reader", "touch", "/go"]).code, 0);
    assert_eq!(lab.brisk(&["wait", "reader"]).out, "0\n");
    let unpacked = images::unpacked("zoo");
    let content = std::fs::read(unpacked.join("zoo/random")).unwrap();
    let digest: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let expected = format!("up\n{digest}  /zoo/random\nsmall\n");
    assert_eq!(lab.brisk(&["logs", "reader"]).out, expected);

    let status = lab.node.status();
    assert_ne!(status["pid"].as_i64().unwrap(), first);
    let counters = &status["counters"];
    let bytes = |name: &str| counters[name].as_u64().unwrap();
    assert!(
        bytes("demand_bytes") + bytes("speculation_bytes") > 1_000_000,
        "{status:#}"
    );
    assert_eq!(lab.brisk(&["rm", "reader"]).code, 0);
}

#[test]
fn sigkill_ends_a_container_whose_reads_wait_for_a_registry_that_hangs() {
    let lab = Lab::new("zoo");
    let gate = lab.node.directory("gate");
    let volume = format!("{}:/gate", gate.display());
    // Its programs are here before the registry hangs.
    let script = "cat /zoo/small; until test -e /gate/go; do sleep 0.1; done; \
                  cat /zoo/random & cat /zoo/large";
    let flags = ["--name", "held", "--background", "off", "-v", &volume];
    lab.detached(&flags, script);
    until("its start", LIMIT, || {
        lab.brisk(&["logs", "held"]).out == "small\n"
    });
    let _stopped = Stopped::registry(&lab.registry);
    std::fs::write(gate.join("go"), "").unwrap();
    until("its reads to wait", LIMIT, || {
        lab.node.status()["counters"]["waiting_reads"]
            .as_u64()
            .unwrap()
            >= 1
    });
    let started = Instant::now();
    assert_eq!(lab.brisk(&["kill", "held"]).code, 0);
    let ended = lab.brisk(&["wait", "held"]);
    let took = started.elapsed();
    println!("the container ended in {took:?}");
    assert_eq!(ended.out, "137\n", "{ended:?}");
    // It takes a fraction of a second; what could not be killed would wait for minutes.
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(lab.brisk(&["rm", "held"]).code, 0);
}

#[test]
fn what_service_and_keeper_left_together_is_cleared_away() {
    let lab = Lab::new("zoo");
    lab.detached(&["--name", "held", "--background", "off"], "sleep 1000");
    let mounted = lab.node.mount(&["--background", "off", &lab.image], "user");
    let keeper = lab.node.keeper().unwrap();
    for pid in [lab.node.service(), keeper] {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    until("the end of the mount", Duration::from_secs(10), || {
        std::fs::read_dir(&mounted).is_err()
    });

    // The next service finds both dead mounts and takes them away.
    assert_eq!(lab.run(&[], &["true"]).code, 0);
    assert!(std::fs::read_dir(&mounted).unwrap().next().is_none());
    assert_eq!(lab.brisk(&["rm", "-f", "held"]).code, 0);
    let mounts = lab.node.root().join("mounts");
    until("the end of all mounts", Duration::from_secs(10), || {
        mounts_below(&mounts).is_empty()
    });
}

#[test]
fn a_mount_that_was_taken_away_is_not_shared() {
    let lab = Lab::new("zoo");
    lab.detached(&["--name", "held"], "sleep 1000");
    for mount in mounts_below(&lab.node.root().join("mounts")) {
        nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    assert_eq!(lab.run(&[], &["echo", "fresh"]).out, "fresh\n");
    assert_eq!(lab.brisk(&["exec", "held", "echo", "still"]).out, "still\n");
    assert_eq!(lab.brisk(&["rm", "-f", "held"]).code, 0);
}

#[test]
fn exec_starts_the_service_that_was_stopped() {
    let lab = Lab::new("zoo");
    lab.detached(&["--name", "held", "--background", "off"], "sleep 1000");
    lab.node.brisk(&["service-stop"]);
    let seen = lab.brisk(&["exec", "held", "cat", "/zoo/small"]);
    assert_eq!((seen.code, seen.out.as_str()), (0, "small\n"), "{seen:?}");
    assert_eq!(lab.brisk(&["rm", "-f", "held"]).code, 0);
}
