//! What the flags of `brisk run` do inside the container.

use crate::harness::Test;
use crate::node::Node;

pub const TESTS: &[Test] = &[
    (
        "environment_user_and_directory",
        environment_user_and_directory,
    ),
    ("entrypoints", entrypoints),
    ("volumes", volumes),
    ("a_read_only_root", a_read_only_root),
    ("identity_files_and_names", identity_files_and_names),
    ("no_network", no_network),
    ("limits_are_the_cgroups", limits_are_the_cgroups),
    ("capabilities_and_seccomp", capabilities_and_seccomp),
    ("privileged", privileged),
    (
        "the_root_is_the_containers_own",
        the_root_is_the_containers_own,
    ),
];

fn environment_user_and_directory() {
    let node = Node::new();
    let file = node.scratch().join("env");
    std::fs::write(&file, "# comment\nB=file\nC=file\n").unwrap();
    let flags = [
        "--env-file",
        file.to_str().unwrap(),
        "-e",
        "C=flag",
        "-e",
        "EMPTY=",
    ];
    let done = node.shell(&flags, "echo $FROM $B $C ${EMPTY-unset} $HOME");
    assert_eq!(done.stdout, "image file flag /root\n");
    let done = node.shell(
        &["-u", "web", "-w", "/new/dir"],
        "id -u; id -g; id -G; pwd; echo $HOME",
    );
    assert_eq!(done.stdout, "33\n34\n34 99\n/new/dir\n/var/www\n");
    let done = node.shell(&["-u", "1234:99"], "id -u; id -G");
    assert_eq!(done.stdout, "1234\n99\n");
    assert_eq!(node.shell(&["-t"], "echo $TERM").stdout, "xterm\r\n");
}

fn entrypoints() {
    let node = Node::new();
    node.add_image(
        "entry",
        r#"{"Entrypoint": ["echo", "entry"], "Cmd": ["cmd"]}"#,
    );
    node.add_image("empty", "{}");
    for (words, output) in [
        (vec!["entry"], "entry cmd\n"),
        (vec!["entry", "arg"], "entry arg\n"),
        (vec!["--entrypoint", "printf", "entry", "x"], "x"),
        (vec!["--entrypoint", "", "entry", "echo", "y"], "y\n"),
    ] {
        let done = node.brisk(&[&["run", "--rm"], words.as_slice()].concat());
        assert_eq!(done.stdout, output, "{words:?}: {done:?}");
    }
    let done = node.brisk(&["run", "--rm", "empty"]);
    assert_eq!(done.code, 125);
    assert!(done.stderr.contains("no command"), "{done:?}");
    node.assert_clean();
}

fn volumes() {
    let node = Node::new();
    let host = node.scratch().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("a"), "host\n").unwrap();
    let missing = node.scratch().join("missing/deep");
    let bind = format!("{}:/mnt/host", host.display());
    let read_only = format!("{}:/ro:ro,z", host.display());
    let made = format!("{}:/made", missing.display());
    let file = format!("{}:/etc/one-file:ro", host.join("a").display());
    let script = "cat /mnt/host/a /etc/one-file; echo written >/mnt/host/b; \
                  touch /ro/x 2>/dev/null || echo refused; touch /made/c; df /scratch | tail -n 1";
    let flags = [
        "-v", &bind, "-v", &read_only, "-v", &made, "-v", &file, "--tmpfs",
    ];
    let done = node.shell(&[&flags[..], &["/scratch:size=1m"]].concat(), script);
    assert!(
        done.stdout.starts_with("host\nhost\nrefused\ntmpfs"),
        "{done:?}"
    );
    assert_eq!(
        std::fs::read_to_string(host.join("b")).unwrap(),
        "written\n"
    );
    assert!(missing.join("c").exists(), "the host directory was created");
    let done = node.shell(&["-v", "named:/x"], "true");
    assert_eq!(done.code, 125);
    assert!(done.stderr.contains("named volumes"), "{done:?}");
    node.assert_clean();
}

fn a_read_only_root() {
    let node = Node::new();
    node.add_image(
        "volume",
        r#"{"Cmd": ["sh"], "Volumes": {"/data": {}, "/new/volume": {}}}"#,
    );
    let script = "touch /x 2>/dev/null || echo refused; touch /run/y && echo tmpfs; \
                  cat /data/file; echo changed >/data/file && cat /data/file; \
                  touch /new/volume/z && echo volume";
    let words = [
        "run",
        "--rm",
        "--read-only",
        "--tmpfs",
        "/run",
        "volume",
        "sh",
        "-c",
        script,
    ];
    let done = node.brisk(&words);
    assert_eq!(
        done.stdout, "refused\ntmpfs\nfrom the image\nchanged\nvolume\n",
        "{done:?}"
    );
    assert_eq!(node.shell(&[], "touch /x && echo ok").stdout, "ok\n");
    node.assert_clean();
}

fn identity_files_and_names() {
    let node = Node::new();
    let own = rustix::system::uname()
        .nodename()
        .to_str()
        .unwrap()
        .to_owned();
    let script = "hostname; cat /etc/hostname; grep -cw \"$(hostname)\" /etc/hosts; echo $HOSTNAME";
    assert_eq!(
        node.shell(&[], script).stdout,
        format!("{own}\n{own}\n1\n{own}\n")
    );
    let named = node.shell(&["--hostname", "box1"], script);
    assert_eq!(named.stdout, "box1\nbox1\n1\nbox1\n");
    let resolved = node.shell(&[], "cat /etc/resolv.conf").stdout;
    assert_eq!(
        resolved,
        std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
    );
    let image = node.images().join("box/rootfs/etc");
    assert!(
        !image.join("hosts").exists(),
        "the image itself is untouched"
    );
}

fn no_network() {
    let node = Node::new();
    let done = node.shell(&["--net", "none"], "ls /sys/class/net; hostname | wc -c");
    assert_eq!(done.stdout, "lo\n13\n", "{done:?}");
}

fn limits_are_the_cgroups() {
    let node = Node::new();
    let v1 = std::path::Path::new("/sys/fs/cgroup/memory").is_dir();
    let script = if v1 {
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max"
    } else {
        "cd /sys/fs/cgroup; cat memory.max; cut -d' ' -f1 cpu.max; cat pids.max"
    };
    let flags = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    let done = node.shell(&flags, script);
    assert_eq!(done.stdout, "67108864\n50000\n50\n", "{done:?}");
    let eater = "x=a; while true; do x=$x$x; done";
    assert_eq!(
        node.shell(&["--memory", "16m"], eater).code,
        137,
        "the kernel ends it"
    );
    for flags in [["--memory", "1k"], ["--cpus", "100000"], ["--cpus", "x"]] {
        assert_eq!(node.shell(&flags, "true").code, 125, "{flags:?}");
    }
    node.assert_clean();
}

fn capabilities_and_seccomp() {
    let node = Node::new();
    let script = "grep CapEff /proc/self/status | cut -f2";
    assert_eq!(node.shell(&[], script).stdout, "00000000a80425fb\n");
    assert_eq!(
        node.shell(&["--cap-drop", "ALL"], script).stdout,
        "0000000000000000\n"
    );
    let flags = ["--cap-drop", "ALL", "--cap-add", "net_admin"];
    assert_eq!(node.shell(&flags, script).stdout, "0000000000001000\n");
    assert_eq!(
        node.shell(&["-u", "1000"], script).stdout,
        "0000000000000000\n"
    );
    let namespaces = "unshare -U true 2>/dev/null && echo allowed || echo refused";
    assert_eq!(node.shell(&[], namespaces).stdout, "refused\n");
    assert_eq!(
        node.shell(&[], "mknod /x b 8 0 && (cat /x 2>&1 | grep -c permitted)")
            .stdout,
        "1\n"
    );
    let hidden = "cat /proc/kcore | wc -c; echo 1 2>/dev/null >/proc/sys/kernel/panic || echo ro";
    assert_eq!(node.shell(&[], hidden).stdout, "0\nro\n");
    assert_eq!(
        node.shell(
            &[],
            "echo x >/dev/null && ls /dev/shm /dev/mqueue && echo fine"
        )
        .code,
        0
    );
}

fn privileged() {
    let node = Node::new();
    let script = "mount -t tmpfs x /tmp && echo mounted; [ -e /dev/loop-control -o -e /dev/kmsg ] \
                  && echo devices; grep Seccomp: /proc/self/status | cut -f2";
    let done = node.shell(&["--privileged"], script);
    assert_eq!(done.stdout, "mounted\ndevices\n0\n", "{done:?}");
    node.assert_clean();
}

fn the_root_is_the_containers_own() {
    let node = Node::new();
    assert_eq!(
        node.shell(&[], "echo changed >/data/file; cat /data/file")
            .stdout,
        "changed\n"
    );
    assert_eq!(node.shell(&[], "cat /data/file").stdout, "from the image\n");
    let id = node.must(&[
        "run",
        "-d",
        "box",
        "sh",
        "-c",
        "echo kept >/data/kept; sleep 100",
    ]);
    let kept = || node.brisk(&["exec", &id, "cat", "/data/kept"]).stdout;
    crate::node::wait_until("it has written", || kept() == "kept\n", kept);
    node.must(&["rm", "-f", &id]);
    node.assert_clean();
}
