//! What the runtime tells of itself, as its callers parse it.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use harness::Container;
use serde_json::{Value, json};

fn features() -> Value {
    serde_json::from_str(&Container::new("true").ok(&["features"])).unwrap()
}

fn has(list: &Value, name: &str) -> bool {
    list.as_array().unwrap().contains(&json!(name))
}

/// runc's three lines, in its order.
#[test]
fn the_version_has_a_line_each_for_name_commit_and_specification() {
    let text = Container::new("true").ok(&["--version"]);
    let lines: Vec<&str> = text.lines().collect();
    let version = concat!("brisk-runtime version ", env!("CARGO_PKG_VERSION"));
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0], version);
    assert!(lines[1].starts_with("commit: ") && lines[1].len() > 8);
    assert_eq!(lines[2], "spec: 1.3.0");
}

#[test]
fn features_name_every_part_of_the_specification() {
    let features = features();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["ociVersionMax"], "1.3.0");
    let hooks = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    assert_eq!(features["hooks"], json!(hooks));
    for option in [
        "ro",
        "rro",
        "rbind",
        "rnosymfollow",
        "idmap",
        "ridmap",
        "rslave",
        "tmpcopyup",
    ] {
        assert!(has(&features["mountOptions"], option), "{option}");
    }
    let linux = &features["linux"];
    for kind in [
        "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
    ] {
        assert!(has(&linux["namespaces"], kind), "{kind}");
    }
    for name in ["CAP_CHOWN", "CAP_AUDIT_READ", "CAP_CHECKPOINT_RESTORE"] {
        assert!(has(&linux["capabilities"], name), "{name}");
    }
    assert_eq!(linux["capabilities"].as_array().unwrap().len(), 41);
    for kind in ["v1", "v2", "systemd", "systemdUser", "rdma"] {
        assert_eq!(linux["cgroup"][kind], true, "{kind}");
    }
    for part in ["seccomp", "apparmor", "selinux", "intelRdt", "netDevices"] {
        assert_eq!(linux[part]["enabled"], true, "{part}");
    }
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
    for (list, name) in [
        ("actions", "SCMP_ACT_NOTIFY"),
        ("operators", "SCMP_CMP_MASKED_EQ"),
        ("archs", "SCMP_ARCH_X86_64"),
        ("knownFlags", "SECCOMP_FILTER_FLAG_LOG"),
        ("supportedFlags", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
    ] {
        assert!(has(&linux["seccomp"][list], name), "{list}");
    }
}

/// Each namespace and mount option that is named is taken in a document.
#[test]
fn what_the_features_name_is_taken() {
    let features = features();
    let mut container = Container::new("ls /over && readlink /proc/self/ns/time");
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.extend([json!({"type": "time"}), json!({"type": "cgroup"})]);
    let options: Vec<&Value> = features["mountOptions"]
        .as_array()
        .unwrap()
        .iter()
        // These ask for another kind of mount than a fresh tmpfs.
        .filter(|option| {
            let other = ["bind", "rbind", "remount", "idmap", "ridmap"];
            !other.contains(&option.as_str().unwrap())
        })
        .collect();
    container.spec["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/over", "type": "tmpfs", "source": "tmpfs", "options": options}),
    );
    std::fs::create_dir(container.rootfs().join("over")).unwrap();
    container.spec["root"]["readonly"] = json!(false);
    let text = container.output();
    assert!(text.starts_with("time:"), "{text}");
    let own = std::fs::read_link("/proc/self/ns/time").unwrap();
    assert_ne!(text.trim(), own.to_str().unwrap());
}
