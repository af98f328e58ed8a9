//! Network devices that move into the container. Every device here is made by the test, in a
//! network namespace of its own.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use std::process::{Command, Output, Stdio};

use harness::{Container, RUNTIME};
use serde_json::json;

/// `create` of the container from a network namespace of its own, prepared by `before`; then
/// `after` is run there.
fn run(container: &Container, before: &str, after: &str) -> Output {
    container.save();
    let script = format!(
        "{before} {RUNTIME} --root {} run -b {} {}; code=$?; {after} exit $code",
        container.root().display(),
        container.directory.path().display(),
        container.id
    );
    Command::new("timeout")
        .args(["-s", "KILL", "60", "unshare", "-n", "sh", "-c", &script])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

const PAIR: &str = "ip link add brisk-test0 type veth peer name brisk-test1 && \
                    ip addr add 192.0.2.1/24 dev brisk-test0 && \
                    ip addr add 2001:db8::1/64 dev brisk-test0 nodad && ";

#[test]
fn a_device_moves_with_its_addresses_under_its_new_name() {
    let mut container = Container::new("/bin/busybox ip addr show dev inner0");
    container.spec["linux"]["netDevices"] = json!({"brisk-test0": {"name": "inner0"}});
    let output = run(&container, PAIR, "ip link show brisk-test0 || echo gone;");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("192.0.2.1/24"), "{text}");
    assert!(text.contains("2001:db8::1/64"), "{text}");
    assert!(text.contains("UP"), "{text}");
    assert!(text.ends_with("gone\n"), "{text}");
    container.assert_gone();
}

#[test]
fn a_device_keeps_its_name_unless_told_otherwise() {
    let mut container = Container::new("/bin/busybox ip link show dev brisk-test0");
    container.spec["linux"]["netDevices"] = json!({"brisk-test0": {}});
    let output = run(&container, PAIR, "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

#[test]
fn devices_that_are_not_there_or_have_no_place_are_refused_by_name() {
    let refused = |devices: serde_json::Value, namespaces: Option<serde_json::Value>| {
        let mut container = Container::new("true");
        container.spec["linux"]["netDevices"] = devices;
        if let Some(namespaces) = namespaces {
            container.spec["linux"]["namespaces"] = namespaces;
        }
        let output = run(&container, "", "");
        assert!(!output.status.success(), "was accepted");
        container.assert_gone();
        String::from_utf8(output.stderr).unwrap()
    };
    let words = refused(json!({"brisk-none": {}}), None);
    assert!(words.contains("linux.netDevices \"brisk-none\""), "{words}");
    let words = refused(json!({"brisk-test0": {"name": "a/b"}}), None);
    assert!(
        words.contains("linux.netDevices \"brisk-test0\""),
        "{words}"
    );
    let both = json!({"brisk-test0": {"name": "one"}, "brisk-test1": {"name": "one"}});
    assert!(refused(both, None).contains("same name"));
    let namespaces = json!([{"type": "mount"}, {"type": "pid"}, {"type": "uts"}]);
    let words = refused(json!({"brisk-none": {}}), Some(namespaces));
    assert!(words.contains("needs a network namespace"), "{words}");
}
