//! What a container may do and what it may not.

use crate::support::lab::Lab;

#[test]
fn capabilities_and_seccomp_as_dockers() {
    let lab = Lab::new("zoo");
    let status = lab.shell(&[], "cat /proc/self/status");
    for line in [
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
    ] {
        assert!(status.lines().any(|l| l == line), "{line} in {status}");
    }
    assert!(status.lines().any(|line| line == "Seccomp:\t2"), "{status}");
    let effective = |flags: &[&str]| lab.run(flags, &["grep", "CapEff", "/proc/self/status"]).out;
    let net_raw = ["--cap-drop", "ALL", "--cap-add", "NET_RAW"];
    assert_eq!(effective(&net_raw), "CapEff:\t0000000000002000\n");
    let dropped = ["--cap-drop", "CHOWN"];
    assert_eq!(effective(&dropped), "CapEff:\t00000000a80425fa\n");
    assert_eq!(effective(&["-u", "app"]), "CapEff:\t0000000000000000\n");
    let refused = lab.run(&["--cap-add", "FLY"], &["true"]);
    assert!(
        refused.code == 125 && refused.err.contains("FLY"),
        "{refused:?}"
    );
}

#[test]
fn forbidden_calls_fail() {
    let lab = Lab::new("zoo");
    let mount = "mount -t tmpfs none /tmp 2>/dev/null; echo $?";
    assert_ne!(lab.shell(&[], mount), "0\n");
    assert_eq!(lab.shell(&["--privileged"], mount), "0\n");
}

#[test]
fn privileged_is_not_confined() {
    let lab = Lab::new("zoo");
    let status = lab.shell(&["--privileged"], "cat /proc/self/status");
    assert!(status.lines().any(|line| line == "Seccomp:\t0"), "{status}");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = own.lines().find(|line| line.starts_with("CapEff")).unwrap();
    assert!(
        status.lines().any(|line| line == effective),
        "{status} has not {effective}"
    );
    assert_eq!(
        lab.shell(&["--privileged"], "test -e /dev/fuse && echo yes"),
        "yes\n"
    );
}

#[test]
fn kernel_files_are_hidden_or_read_only() {
    let lab = Lab::new("zoo");
    let out = lab.shell(
        &[],
        "cat /proc/interrupts | wc -c; ls /sys/firmware | wc -l; ls /proc/acpi | wc -l",
    );
    assert_eq!(out, "0\n0\n0\n");
    for path in [
        "/proc/sys/kernel/domainname",
        "/sys/kernel/notes",
        "/proc/irq/default_smp_affinity",
    ] {
        let script = format!("(echo x > {path}) 2>&1");
        let out = lab.run(&[], &["sh", "-c", &script]).out;
        assert!(out.contains("Read-only file system"), "{path}: {out}");
    }
}

#[test]
fn without_a_network_only_loopback_is_there() {
    let lab = Lab::new("zoo");
    assert_eq!(
        lab.shell(
            &["--net", "none"],
            "ls /sys/class/net; cat /sys/class/net/lo/flags"
        ),
        "lo\n0x9\n"
    );
    let host: usize = std::fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(
        lab.shell(&[], "ls /sys/class/net | wc -l").trim(),
        host.to_string()
    );
}

#[test]
fn limits_are_the_cgroups() {
    let lab = Lab::new("zoo");
    let flags = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    let script = "cd /sys/fs/cgroup; for f in memory/memory.limit_in_bytes memory.max pids/pids.max \
                  pids.max cpu/cpu.cfs_quota_us cpu.max; do test -e $f && cat $f; done; true";
    let out = lab.shell(&flags, script);
    let expected = ["67108864\n50\n50000\n", "67108864\n50\n50000 100000\n"];
    assert!(expected.contains(&out.as_str()), "{out}");
    let crowd = "i=0; while test $i -lt 60; do sleep 5 & i=$((i+1)); done 2>&1; true";
    let done = lab.run(&["--pids-limit", "20"], &["sh", "-c", crowd]);
    assert!(format!("{done:?}").contains("fork"), "{done:?}");
    // More than it may have: killed by the kernel.
    let done = lab.run(
        &["-m", "16m"],
        &[
            "sh",
            "-c",
            "head -c 100m /dev/zero | tail >/dev/null; exit $?",
        ],
    );
    assert_eq!(done.code, 137, "{done:?}");
}

#[test]
fn set_user_id_programs_work() {
    let lab = Lab::new("python");
    lab.detached(
        &["--name", "suid"],
        "cp /usr/bin/python3.11 /tmp/p; chmod 4755 /tmp/p; echo made; sleep 1000",
    );
    crate::support::registry::until("the program", std::time::Duration::from_secs(60), || {
        lab.brisk(&["logs", "suid"]).out == "made\n"
    });
    let script = "import os; print(os.getuid(), os.geteuid())";
    let done = lab.brisk(&[
        "exec", "-u", "1234", "suid", "/tmp/p", "-I", "-S", "-c", script,
    ]);
    assert_eq!((done.code, done.out.as_str()), (0, "1234 0\n"), "{done:?}");
}
