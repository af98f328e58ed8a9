//! Properties of the process: each is in force inside, or refused by its name.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use harness::Container;
use serde_json::{Value, json};

/// What `create` says to a specification changed so.
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut container = Container::new("true");
    change(&mut container.spec);
    let created = container.create(&[]);
    assert!(!created.status.success(), "was accepted");
    container.assert_gone();
    String::from_utf8(created.stderr).unwrap()
}

/// The fields of `/proc/self/stat` after the program's name: the first is number 3 of proc(5).
fn stat_field(text: &str, number: usize) -> &str {
    let (_, rest) = text.rsplit_once(')').unwrap();
    rest.split_whitespace().nth(number - 3).unwrap()
}

#[test]
fn the_scheduler_is_that_asked_for() {
    let mut container = Container::new("cat /proc/self/stat");
    container.spec["process"]["scheduler"] =
        json!({"policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    container.spec["process"]["args"] = json!(["cat", "/proc/self/stat"]);
    let text = container.output();
    assert_eq!((stat_field(&text, 19), stat_field(&text, 41)), ("7", "3"));
    // A further process is scheduled as its own document says.
    container.spec["process"]["args"] = json!(["sleep", "1000"]);
    container.start();
    let process = json!({"args": ["cat", "/proc/self/stat"], "cwd": "/", "user": {},
        "env": ["PATH=/bin"], "scheduler": {"policy": "SCHED_IDLE"}});
    let document = container.directory.path().join("process.json");
    std::fs::write(&document, process.to_string()).unwrap();
    let text = container.ok(&["exec", "-p", document.to_str().unwrap(), &container.id]);
    assert_eq!(stat_field(&text, 41), "5");
}

#[test]
fn a_scheduler_that_makes_no_sense_is_refused_by_name() {
    for (scheduler, word) in [
        (json!({"policy": "SCHED_NONE"}), "process.scheduler.policy"),
        (
            json!({"policy": "SCHED_OTHER", "runtime": 5}),
            "SCHED_DEADLINE",
        ),
        (
            json!({"policy": "SCHED_OTHER", "flags": ["NONE"]}),
            "process.scheduler.flags",
        ),
        // No runtime at all: the kernel refuses it.
        (json!({"policy": "SCHED_DEADLINE"}), "process.scheduler"),
    ] {
        let words = refused(|spec| spec["process"]["scheduler"] = scheduler);
        assert!(words.contains(word), "{words}");
    }
}

#[test]
fn the_io_priority_is_that_asked_for() {
    let mut container = Container::new("/bin/busybox ionice");
    container.spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    assert_eq!(container.output().trim(), "best-effort: prio 6");
    for priority in [
        json!({"class": "IOPRIO_CLASS_NONE"}),
        json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
    ] {
        let words = refused(|spec| spec["process"]["ioPriority"] = priority);
        assert!(words.contains("process.ioPriority"), "{words}");
    }
}

#[test]
fn a_limit_above_the_own_hard_limit_is_refused_by_name() {
    let words = refused(|spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}]);
    });
    assert!(words.contains("process.rlimits RLIMIT_NOFILE"), "{words}");
    let words = refused(|spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]);
    });
    assert!(words.contains("RLIMIT_NONE"), "{words}");
    // A caller whose own hard limit is lower and who may not raise it.
    let mut container = Container::new("true");
    container.spec["process"]["rlimits"] =
        json!([{"type": "RLIMIT_CORE", "soft": 10, "hard": 1 << 20}]);
    container.save();
    let binary = harness::RUNTIME;
    let bundle = container.directory.path().to_str().unwrap();
    let root = container.root();
    let script = format!(
        "ulimit -H -c 1; exec setpriv --bounding-set -sys_resource {binary} --root {} \
         create -b {bundle} {}",
        root.display(),
        container.id
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success()
            && words.contains("process.rlimits RLIMIT_CORE")
            && words.contains("CAP_SYS_RESOURCE"),
        "{words}"
    );
    container.assert_gone();
}

#[test]
fn a_further_process_runs_on_the_processors_asked_for() {
    let mut container = Container::new("exec sleep 1000");
    container.spec["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    container.start();
    let text = container.ok(&[
        "exec",
        &container.id,
        "grep",
        "Cpus_allowed_list",
        "/proc/self/status",
    ]);
    assert_eq!(text.split_whitespace().last(), Some("0"), "{text}");
    let process = json!({"args": ["true"], "cwd": "/", "user": {}, "env": ["PATH=/bin"],
        "execCPUAffinity": {"initial": "zero"}});
    let document = container.directory.path().join("process.json");
    std::fs::write(&document, process.to_string()).unwrap();
    let words = container.fails(&["exec", "-p", document.to_str().unwrap(), &container.id]);
    assert!(words.contains("process.execCPUAffinity.initial"), "{words}");
}

#[test]
fn the_execution_domain_is_that_asked_for() {
    let mut container = Container::new("/bin/busybox uname -m");
    container.spec["linux"]["personality"] = json!({"domain": "LINUX32"});
    let machine = container.output();
    assert!(
        ["i686\n", "armv8l\n"].contains(&machine.as_str()),
        "{machine}"
    );
    for personality in [
        json!({"domain": "OTHER"}),
        json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
    ] {
        let words = refused(|spec| spec["linux"]["personality"] = personality);
        assert!(words.contains("linux.personality"), "{words}");
    }
}

#[test]
fn the_memory_policy_is_that_asked_for() {
    let mut container = Container::new("head -n 1 /proc/self/numa_maps");
    container.spec["linux"]["memoryPolicy"] =
        json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    if std::path::Path::new("/proc/self/numa_maps").exists() {
        let text = container.output();
        assert!(text.contains(" interleave=static:0 "), "{text}");
    }
    for policy in [
        json!({"mode": "MPOL_NONE"}),
        json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NONE"]}),
        json!({"mode": "MPOL_BIND", "nodes": "zero"}),
        // The kernel wants nodes for it.
        json!({"mode": "MPOL_BIND"}),
    ] {
        let words = refused(|spec| spec["linux"]["memoryPolicy"] = policy);
        assert!(words.contains("linux.memoryPolicy"), "{words}");
    }
}

#[test]
fn labels_are_refused_by_name_where_the_kernel_has_none() {
    if !std::path::Path::new("/sys/module/apparmor").exists() {
        let words = refused(|spec| spec["process"]["apparmorProfile"] = json!("some"));
        assert!(words.contains("process.apparmorProfile"), "{words}");
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let words = refused(|spec| spec["process"]["selinuxLabel"] = json!("a:b:c:s0"));
        assert!(words.contains("process.selinuxLabel"), "{words}");
        let words = refused(|spec| spec["linux"]["mountLabel"] = json!("a:b:c:s0"));
        assert!(words.contains("linux.mountLabel"), "{words}");
    }
}

#[test]
fn sysctls_that_are_not_the_containers_own_are_refused_by_name() {
    for key in ["kernel.panic", "vm.swappiness", "net/../kernel/panic"] {
        let words = refused(|spec| spec["linux"]["sysctl"] = json!({key: "1"}));
        assert!(words.contains("linux.sysctl"), "{words}");
    }
    let words = refused(|spec| spec["linux"]["sysctl"] = json!({"net.none": "1"}));
    assert!(words.contains("linux.sysctl net.none"), "{words}");
}

#[test]
fn ambient_capabilities_reach_a_user_and_privileges_do_not_come_back() {
    let mut container = Container::new("grep -E '^(Cap|NoNew)' /proc/self/status");
    let all = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    container.spec["process"]["user"] = json!({"uid": 7, "gid": 7});
    container.spec["process"]["noNewPrivileges"] = json!(true);
    container.spec["process"]["capabilities"] = json!({"bounding": all, "permitted": all,
        "effective": all, "inheritable": all, "ambient": ["CAP_KILL"]});
    let text = container.output();
    let set = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    assert_eq!([set("CapAmb"), set("CapEff"), set("CapPrm")], [1 << 5; 3]);
    assert_eq!(set("CapInh"), 1 << 5 | 1 << 10);
    assert_eq!(set("CapBnd"), 1 << 5 | 1 << 10);
    assert_eq!(set("NoNewPrivs"), 1);
    let words = refused(|spec| {
        spec["process"]["capabilities"] = json!({"ambient": ["CAP_FLY"]});
    });
    assert!(words.contains("CAP_FLY"), "{words}");
}
