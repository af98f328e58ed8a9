//! Mounts: types, options, propagation, ids.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use harness::Container;
use serde_json::{Value, json};

/// A directory next to the rootfs with a file of user 0.
fn shared(container: &Container) -> PathBuf {
    let path = container.directory.path().join("shared");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("file"), "content\n").unwrap();
    path
}

fn add(container: &mut Container, mount: Value) {
    container.spec["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn a_tmpfs_begins_with_what_the_image_has() {
    let mut container = Container::new(
        "cat /data/a/file; ls -ln /data; touch /data/new && ls /data/new; echo more > /data/a/file",
    );
    let data = container.rootfs().join("data");
    std::fs::create_dir_all(data.join("a")).unwrap();
    std::fs::write(data.join("a/file"), "content\n").unwrap();
    chown(data.join("a"), Some(12), Some(13)).unwrap();
    std::os::unix::fs::symlink("a/file", data.join("link")).unwrap();
    add(
        &mut container,
        json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs",
            "options": ["tmpcopyup", "size=1m"]}),
    );
    let text = container.output();
    assert!(text.starts_with("content\n"), "{text}");
    assert!(text.contains("link -> a/file"), "{text}");
    let line = text.lines().find(|line| line.ends_with(" a")).unwrap();
    let owner: Vec<&str> = line.split_whitespace().skip(2).take(2).collect();
    assert_eq!(owner, ["12", "13"]);
    assert!(text.ends_with("/data/new\n"), "{text}");
    assert_eq!(
        std::fs::read_to_string(data.join("a/file")).unwrap(),
        "content\n"
    );
    assert!(!data.join("new").exists());
}

#[test]
fn only_a_tmpfs_can_be_copied_up() {
    let mut container = Container::new("true");
    add(
        &mut container,
        json!({"destination": "/q", "type": "mqueue", "source": "mqueue", "options": ["tmpcopyup"]}),
    );
    let created = container.create(&[]);
    let words = String::from_utf8_lossy(&created.stderr);
    assert!(
        words.contains("tmpcopyup") && words.contains("/q"),
        "{words}"
    );
    container.assert_gone();
}

#[test]
fn remount_changes_what_is_there() {
    let mut container = Container::new("grep ' /memory ' /proc/mounts; touch /memory/x 2>&1; true");
    add(
        &mut container,
        json!({"destination": "/memory", "type": "tmpfs", "source": "tmpfs",
            "options": ["size=64k"]}),
    );
    add(
        &mut container,
        json!({"destination": "/memory", "type": "tmpfs", "source": "tmpfs",
            "options": ["remount", "ro", "nosuid", "size=128k"]}),
    );
    let text = container.output();
    let line = text.lines().next().unwrap();
    assert!(
        line.contains("size=128k") && line.contains("nosuid") && line.contains("ro,"),
        "{line}"
    );
    assert!(text.contains("Read-only file system"), "{text}");

    let mut container = Container::new("true");
    add(
        &mut container,
        json!({"destination": "/bin", "type": "none", "options": ["bind", "remount", "ro"]}),
    );
    let created = container.create(&[]);
    assert!(String::from_utf8_lossy(&created.stderr).contains("/bin"));
}

#[test]
fn recursive_attributes_reach_the_mounts_below() {
    let script = "touch /shared/inner/x 2>&1; touch /plain/inner/x && echo writable; \
                  grep ' /shared/inner ' /proc/mounts";
    let mut container = Container::new(script);
    let source = shared(&container);
    let inner = source.join("inner");
    std::fs::create_dir(&inner).unwrap();
    let _mounted = Mounted::tmpfs(&inner);
    add(
        &mut container,
        json!({"destination": "/shared", "source": source,
            "options": ["rbind", "rro", "rnosuid", "rnoexec", "rnodev"]}),
    );
    // The plain form is of the uppermost mount alone.
    add(
        &mut container,
        json!({"destination": "/plain", "source": source, "options": ["rbind", "ro"]}),
    );
    let text = container.output();
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(text.contains("writable"), "{text}");
    let line = text.lines().last().unwrap();
    for option in ["ro", "nosuid", "noexec", "nodev"] {
        assert!(line.contains(option), "{line}");
    }
}

/// A mount that goes with this value.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(path: &std::path::Path) -> Self {
        rustix::mount::mount(
            "tmpfs",
            path,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn ids_of_a_mount_are_mapped() {
    let mut container = Container::new("ls -ln /mapped/file; touch /mapped/new; true");
    let source = container.directory.path().join("memory");
    std::fs::create_dir(&source).unwrap();
    // A filesystem that is known to be able to.
    let _mounted = Mounted::tmpfs(&source);
    std::fs::write(source.join("file"), "").unwrap();
    let mapping = json!([{"containerID": 0, "hostID": 4000, "size": 100}]);
    container.spec["process"]["user"] = json!({"uid": 4000, "gid": 4000});
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(container.rootfs(), mode).unwrap();
    add(
        &mut container,
        json!({"destination": "/mapped", "source": source, "options": ["bind", "idmap"],
            "uidMappings": mapping, "gidMappings": mapping}),
    );
    let text = container.output();
    let owner: Vec<&str> = text.split_whitespace().skip(2).take(2).collect();
    assert_eq!(owner, ["4000", "4000"], "{text}");
    // What its user makes belongs to user 0 outside.
    assert_eq!(std::fs::metadata(source.join("new")).unwrap().uid(), 0);

    container.spec["mounts"].as_array_mut().unwrap().pop();
    add(
        &mut container,
        json!({"destination": "/mapped", "type": "tmpfs", "source": "tmpfs",
            "uidMappings": mapping, "gidMappings": mapping}),
    );
    let created = container.create(&[]);
    assert!(String::from_utf8_lossy(&created.stderr).contains("mounts.uidMappings of /mapped"));
    assert!(!container.root().join(&container.id).exists());
}

#[test]
fn each_propagation_of_the_root_is_in_force_and_nothing_reaches_the_host() {
    for (name, word) in [
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("slave", ""),
        ("rslave", ""),
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
        ("", ""),
    ] {
        let mut container = Container::new(
            "grep ' / / ' /proc/self/mountinfo | head -n 1; \
            /bin/busybox awk '$5 == \"/\"' /proc/self/mountinfo",
        );
        container.spec["linux"]["rootfsPropagation"] = json!(name);
        let text = container.output();
        let line = text.lines().last().unwrap();
        assert!(line.contains(word), "{name}: {line}");
        if matches!(name, "private" | "rprivate") {
            assert!(
                !line.contains("shared:") && !line.contains("master:"),
                "{line}"
            );
        }
        container.assert_gone();
    }
    let mut container = Container::new("true");
    container.spec["linux"]["rootfsPropagation"] = json!("sideways");
    let created = container.create(&[]);
    assert!(String::from_utf8_lossy(&created.stderr).contains("linux.rootfsPropagation"));
}

#[test]
fn the_root_can_be_moved_instead_of_pivoted() {
    let mut container = Container::new("ls /; touch /x; true");
    container.save();
    let bundle = container.directory.path().to_str().unwrap();
    let text = container.ok(&["run", "--no-pivot", "-b", bundle, &container.id]);
    assert!(text.starts_with("bin\n"), "{text}");
    assert!(
        !container.rootfs().join("x").exists(),
        "the root is writable"
    );
    container.spec["root"]["readonly"] = json!(false);
    container.save();
    container.ok(&["run", "--no-pivot", "-b", bundle, &container.id]);
    assert!(container.rootfs().join("x").exists());
    container.assert_gone();
}

#[test]
fn callers_are_told_of_mapped_ids_and_recursive_options() {
    let container = Container::new("true");
    let features: Value = serde_json::from_str(&container.ok(&["features"])).unwrap();
    assert_eq!(
        features["linux"]["mountExtensions"]["idmap"]["enabled"],
        true
    );
    let options = features["mountOptions"].as_array().unwrap();
    for name in ["rro", "idmap", "tmpcopyup", "remount"] {
        assert!(options.contains(&json!(name)), "{name}");
    }
}

#[test]
fn options_that_no_filesystem_knows_are_refused_with_the_destination() {
    let mut container = Container::new("true");
    add(
        &mut container,
        json!({"destination": "/memory", "type": "tmpfs", "source": "tmpfs",
            "options": ["nonsense=1"]}),
    );
    let created = container.create(&[]);
    let words = String::from_utf8_lossy(&created.stderr);
    assert!(
        words.contains("/memory") && words.contains("nonsense"),
        "{words}"
    );
    container.assert_gone();
}

#[test]
fn device_nodes_have_the_owner_and_mode_asked_for() {
    let mut container = Container::new("ls -ln /dev/mine /dev/pipe; ls -l /dev/fd /dev/stdin");
    container.spec["linux"]["devices"] = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640,
         "uid": 5, "gid": 6},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
    ]);
    let text = container.output();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("crw-r-----"), "{text}");
    assert!(
        lines[0].contains(" 5 ") && lines[0].contains("1,   3"),
        "{text}"
    );
    assert!(lines[1].starts_with("prw-------"), "{text}");
    assert!(text.contains("/dev/fd -> /proc/self/fd"), "{text}");
}
