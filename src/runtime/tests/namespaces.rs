//! Namespaces: made, joined, left out.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use std::os::unix::fs::PermissionsExt;

use harness::Container;
use serde_json::{Value, json};

const LINKS: &str = "for n in net uts ipc pid mnt user time cgroup; do \
                     echo $n $(readlink /proc/self/ns/$n); done; id -u";

/// The namespaces of a running container's first process, as `LINKS` prints them.
fn link(container: &Container, name: &str) -> String {
    let pid = &container.state()["pid"];
    let path = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    format!("{name} {}", path.display())
}

/// Lets `container` join the namespaces `kinds` of `other`, making the rest.
fn join(container: &mut Container, other: &Container, kinds: &[(&str, &str)]) {
    let pid = other.state()["pid"].clone();
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    for (kind, file) in kinds {
        namespaces.retain(|namespace| namespace["type"] != *kind);
        namespaces.push(json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
    }
}

/// A container whose root is reachable for users of other numbers.
fn with_user_namespace(script: &str) -> Container {
    let mut container = Container::new(script);
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    container.spec["linux"]["uidMappings"] = mapping.clone();
    container.spec["linux"]["gidMappings"] = mapping;
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.push(json!({"type": "user"}));
    prepare_for_others(&container);
    container
}

fn prepare_for_others(container: &Container) {
    for path in ["dev", "proc", "sys"] {
        std::fs::create_dir(container.rootfs().join(path)).unwrap();
    }
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(container.directory.path(), mode).unwrap();
}

#[test]
fn namespaces_are_joined_by_path() {
    let holder = Container::new("exec sleep 1000");
    holder.start();
    let mut container = Container::new(LINKS);
    container.spec["hostname"] = json!("");
    let kinds = [
        ("network", "net"),
        ("uts", "uts"),
        ("ipc", "ipc"),
        ("pid", "pid"),
    ];
    join(&mut container, &holder, &kinds);
    let text = container.output();
    for name in ["net", "uts", "ipc", "pid"] {
        assert!(text.contains(&link(&holder, name)), "{name}: {text}");
    }
    assert!(!text.contains(&link(&holder, "mnt")), "{text}");
}

#[test]
fn what_is_no_namespace_is_refused_by_name() {
    let mut container = Container::new("true");
    container.spec["linux"]["namespaces"] =
        json!([{"type": "mount"}, {"type": "ipc", "path": "/proc/self/ns/net"}]);
    container.spec["hostname"] = json!("");
    let created = container.create(&[]);
    let words = String::from_utf8_lossy(&created.stderr);
    assert!(words.contains("ipc namespace"), "{words}");
    container.assert_gone();
}

#[test]
fn a_user_namespace_is_joined_with_what_belongs_to_it() {
    let holder = with_user_namespace("exec sleep 1000");
    holder.start();
    let mut container = Container::new(LINKS);
    prepare_for_others(&container);
    let kinds = [("user", "user"), ("network", "net"), ("ipc", "ipc")];
    join(&mut container, &holder, &kinds);
    let text = container.output();
    for name in ["user", "net", "ipc"] {
        assert!(text.contains(&link(&holder, name)), "{name}: {text}");
    }
    for name in ["pid", "mnt", "uts"] {
        assert!(!text.contains(&link(&holder, name)), "{name}: {text}");
    }
    assert!(text.ends_with("\n0\n"), "{text}");
    container.assert_gone();
}

#[test]
fn a_new_user_namespace_with_a_network_of_the_host_side() {
    let holder = Container::new("exec sleep 1000");
    holder.start();
    let mut container = with_user_namespace(LINKS);
    // sysfs belongs to the network namespace, which is not this user namespace's.
    let mounts = container.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
    join(&mut container, &holder, &[("network", "net")]);
    let text = container.output();
    assert!(text.contains(&link(&holder, "net")), "{text}");
}

#[test]
fn sources_of_mounts_are_the_host_roots_to_reach() {
    let mut container = with_user_namespace("cat /secret/file");
    std::fs::create_dir(container.rootfs().join("secret")).unwrap();
    let hidden = container.directory.path().join("hidden");
    std::fs::create_dir_all(hidden.join("inner")).unwrap();
    std::fs::write(hidden.join("inner/file"), "content\n").unwrap();
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&hidden, mode).unwrap();
    let mounts = container.spec["mounts"].as_array_mut().unwrap();
    let source = hidden.join("inner");
    mounts.push(json!({"destination": "/secret", "source": source, "options": ["bind", "ro"]}));
    assert!(container.output().starts_with("content\n"));
}

#[test]
fn clocks_are_offset_and_hooks_stay_outside() {
    let mut container = Container::new("cat /proc/uptime; cat /proc/self/timens_offsets");
    container.spec["linux"]["timeOffsets"] =
        json!({"boottime": {"secs": 100_000_000, "nanosecs": 5}, "monotonic": {"secs": 7}});
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.push(json!({"type": "time"}));
    let seen = container.directory.path().join("seen");
    let script = format!(
        "readlink /proc/self/ns/time /proc/self/ns/pid > {}",
        seen.display()
    );
    container.spec["hooks"] = json!({"createRuntime":
        [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]});
    let text = container.output();
    let uptime: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
    assert!(uptime > 1e8, "{text}");
    assert!(text.contains("100000000"), "{text}");
    let own = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
    let expected = format!("{}\n{}\n", own("time").display(), own("pid").display());
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), expected);
}

#[test]
fn offsets_in_a_user_namespace() {
    let mut container = with_user_namespace("cat /proc/uptime; id -u");
    container.spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 100_000_000}});
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.push(json!({"type": "time"}));
    let text = container.output();
    let uptime: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
    assert!(uptime > 1e8 && text.ends_with("\n0\n"), "{text}");
}

/// Takes away all that needs a mount namespace.
fn without_mounts(container: &mut Container, root: Value) {
    container.spec["mounts"] = json!([]);
    container.spec["root"] = root;
    let linux = container.spec["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
}

#[test]
fn without_a_mount_namespace_the_root_is_a_directory() {
    let mut container = Container::new("true");
    container.spec["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "uts"}]);
    let created = container.create(&[]);
    let words = String::from_utf8_lossy(&created.stderr);
    assert!(
        words.contains("invalid mounts") && words.contains("mount namespace"),
        "{words}"
    );
    without_mounts(&mut container, json!({"path": "rootfs"}));
    container.spec["process"]["args"] = json!(["sh", "-c", "ls /; exec sleep 1000"]);
    container.start();
    let text = container.ok(&["exec", &container.id, "ls", "/"]);
    assert_eq!(text, "bin\netc\n");
    let pid = &container.state()["pid"];
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(theirs, std::fs::read_link("/proc/self/ns/mnt").unwrap());
}

#[test]
fn a_mount_namespace_is_joined() {
    let holder = Container::new("exec sleep 1000");
    std::fs::write(holder.rootfs().join("marker"), "").unwrap();
    holder.start();
    let mut container = Container::new("ls /; exec sleep 1000");
    without_mounts(&mut container, json!({"path": "/"}));
    join(&mut container, &holder, &[("mount", "mnt")]);
    container.start();
    let text = container.ok(&[
        "exec",
        &container.id,
        "sh",
        "-c",
        "ls /; readlink /proc/1/ns/mnt",
    ]);
    assert!(text.contains("marker\n"), "{text}");
    assert_eq!(link(&container, "mnt"), link(&holder, "mnt"));
}
