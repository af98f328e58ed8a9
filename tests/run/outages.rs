//! The service dies under a running container.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use crate::support::images;
use crate::support::lab::Lab;
use crate::support::registry::until;

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
        bytes("demand_bytes") + bytes("read_ahead_bytes") > 1_000_000,
        "{status:#}"
    );
    assert_eq!(lab.brisk(&["rm", "reader"]).code, 0);
}
