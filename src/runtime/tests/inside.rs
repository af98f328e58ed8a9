//! What the program finds inside.

mod harness;

use harness::Container;
use serde_json::json;

#[test]
fn arguments_environment_directory_user_and_groups() {
    let mut container =
        Container::new("echo $0 $1; echo $GREETING $HOME; pwd; id -u; id -g; id -G; umask");
    let process = &mut container.spec["process"];
    process["args"]
        .as_array_mut()
        .unwrap()
        .extend([json!("name"), json!("one")]);
    process["env"]
        .as_array_mut()
        .unwrap()
        .push(json!("GREETING=hello"));
    process["cwd"] = json!("/made/for/it");
    process["user"] = json!({"uid": 1000, "gid": 100, "additionalGids": [7, 8], "umask": 0o27});
    std::fs::write(
        container.rootfs().join("etc/passwd"),
        "u:x:1000:100::/home/u:/bin/sh\n",
    )
    .unwrap();
    let lines = container.output();
    let lines: Vec<&str> = lines.lines().collect();
    let expected = [
        "name one",
        "hello /home/u",
        "/made/for/it",
        "1000",
        "100",
        "100 7 8",
        "0027",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn capabilities_are_those_asked_for() {
    let mut container = Container::new("grep Cap /proc/self/status");
    container.spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
    });
    let text = container.output();
    let set = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    let (chown, kill) = (1, 1 << 5);
    assert_eq!(set("CapBnd"), chown | kill);
    // User 0 gains what is bounding by the exec itself.
    assert_eq!(set("CapPrm"), chown | kill);
    assert_eq!(set("CapInh"), kill);

    container.spec["process"]["user"] = json!({"uid": 5, "gid": 5});
    let text = container.output();
    let line = text
        .lines()
        .find(|line| line.starts_with("CapEff"))
        .unwrap();
    assert!(line.ends_with("0000000000000020"), "{line}");
}

#[test]
fn a_system_call_that_the_filter_denies_fails() {
    for no_new_privileges in [true, false] {
        let mut container =
            Container::new("mkdir /tmp/x 2>&1; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status");
        container.spec["root"]["readonly"] = json!(false);
        container.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        container.spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "mkdirat", "not_a_call"], "action": "SCMP_ACT_ERRNO",
                          "errnoRet": 38}],
        });
        std::fs::create_dir(container.rootfs().join("tmp")).unwrap();
        std::fs::create_dir(container.rootfs().join("proc")).unwrap();
        for directory in ["dev", "sys"] {
            std::fs::create_dir(container.rootfs().join(directory)).unwrap();
        }
        let text = container.output();
        assert!(text.contains("Function not implemented"), "{text}");
        assert!(text.contains("Seccomp:\t2"), "{text}");
        let expected = format!("NoNewPrivs:\t{}", i32::from(no_new_privileges));
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_stay_as_they_are() {
    let container = Container::new(
        "cat /proc/timer_list | head -c 10; ls /sys/firmware; \
         echo 1 > /proc/sys/kernel/panic && echo written; touch /file && echo made; true",
    );
    assert_eq!(container.output(), "");
}

#[test]
fn the_root_is_writable_unless_read_only() {
    let mut container = Container::new("touch /file && echo made; true");
    container.spec["root"]["readonly"] = json!(false);
    assert_eq!(container.output(), "made\n");
    assert!(container.rootfs().join("file").exists());
}

#[test]
fn mounts_of_memory_directories_and_files() {
    let mut container = Container::new(
        "echo x > /memory/file && cat /memory/file; cat /shared/file /one; \
         touch /shared/new 2>/dev/null || echo read-only; grep -c nosuid /proc/mounts >/dev/null; \
         grep ' /memory ' /proc/mounts",
    );
    let shared = container.directory.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "content\n").unwrap();
    let mounts = container.spec["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/memory", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "noexec", "size=64k", "mode=700"]}),
    );
    mounts.push(
        json!({"destination": "/shared", "type": "bind", "source": shared,
        "options": ["rbind", "ro"]}),
    );
    mounts.push(json!({"destination": "/one", "source": "shared/file", "options": ["bind"]}));
    let text = container.output();
    assert!(
        text.starts_with("x\ncontent\ncontent\nread-only\n"),
        "{text}"
    );
    let memory = text.lines().last().unwrap();
    for option in ["nosuid", "noexec", "size=64k", "mode=700"] {
        assert!(memory.contains(option), "{memory}");
    }
}

#[test]
fn a_symlink_in_the_image_does_not_lead_a_mount_outside() {
    let mut container = Container::new("cat /trap/here");
    let outside = container.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, container.rootfs().join("trap")).unwrap();
    let source = container.directory.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("here"), "inside\n").unwrap();
    container.spec["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/trap", "type": "bind", "source": source, "options": ["bind"]}),
    );
    assert_eq!(container.output(), "inside\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    // The path was made below the container's root instead.
    let inside = container.rootfs().join(outside.strip_prefix("/").unwrap());
    assert!(inside.is_dir());
}

#[test]
fn procfs_is_not_mounted_over_a_symlink_and_nothing_is_mounted_into_it() {
    let mut container = Container::new("true");
    std::os::unix::fs::symlink("elsewhere", container.rootfs().join("proc")).unwrap();
    let created = container.create(&[]);
    assert!(String::from_utf8_lossy(&created.stderr).contains("ordinary directory"));
    std::fs::remove_file(container.rootfs().join("proc")).unwrap();
    container.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/proc/sys", "type": "tmpfs", "source": "tmpfs"}));
    let created = container.create(&[]);
    assert!(String::from_utf8_lossy(&created.stderr).contains("inside procfs"));
    container.assert_gone();
}

#[test]
fn names_and_limits() {
    let mut container = Container::new(
        "hostname; cat /proc/sys/kernel/domainname; ulimit -n; ulimit -Hn; \
         cat /proc/self/oom_score_adj; cat /proc/sys/net/ipv4/ip_forward; \
         cat /sys/class/net/lo/operstate; cat /proc/self/stat | head -c 2",
    );
    container.spec["hostname"] = json!("inner");
    container.spec["domainname"] = json!("domain");
    container.spec["process"]["oomScoreAdj"] = json!(100);
    container.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    container.spec["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    let text = container.output();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..6], ["inner", "domain", "100", "200", "100", "1"]);
    // The loopback device reports no operational state of its own once it is up.
    assert_eq!(lines[6], "unknown");
}

#[test]
fn limits_are_in_the_cgroup_files_and_can_be_updated() {
    let mut container = Container::new("exec sleep 1000");
    container.spec["linux"]["resources"] = json!({
        "pids": {"limit": 77}, "memory": {"limit": 64 << 20}, "cpu": {"shares": 512},
        "devices": [{"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
    });
    container.start();
    assert_eq!(container.cgroup_file("pids", "pids.max"), "77");
    assert_eq!(
        container.cgroup_file("memory", "memory.limit_in_bytes"),
        "67108864"
    );
    assert_eq!(container.cgroup_file("cpu", "cpu.shares"), "512");
    let devices = container.cgroup_file("devices", "devices.list");
    assert!(
        devices.contains("c 10:229 rw") && !devices.contains("a *:*"),
        "{devices}"
    );
    container.ok(&["update", "--pids-limit", "78", &container.id]);
    assert_eq!(container.cgroup_file("pids", "pids.max"), "78");
}

#[test]
fn a_descriptor_that_the_caller_left_open_is_closed() {
    use std::os::fd::AsRawFd;
    let container = Container::new("ls -l /proc/self/fd");
    container.save();
    let secret = std::fs::File::open("/etc").unwrap();
    // Handed on without close-on-exec, as a careless caller would.
    let number = nix::unistd::dup(&secret).unwrap();
    let bundle = container.directory.path().to_str().unwrap();
    let output = container
        .command(&["run", "-b", bundle, &container.id])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(
        !text.contains("/etc"),
        "descriptor {} leaked: {text}",
        number.as_raw_fd()
    );
    assert!(text.contains(" 0 -> "), "{text}");
}

#[test]
fn a_user_namespace_maps_its_root() {
    let mut container = Container::new("id -u; cat /proc/self/uid_map");
    container.spec["root"]["readonly"] = json!(false);
    let linux = &mut container.spec["linux"];
    linux["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    for path in ["dev", "proc", "sys"] {
        std::fs::create_dir(container.rootfs().join(path)).unwrap();
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(container.directory.path(), mode).unwrap();
    let text = container.output();
    assert!(text.starts_with("0\n"), "{text}");
    assert!(text.contains("100000"), "{text}");
}
