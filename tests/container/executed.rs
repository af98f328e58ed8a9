//! `brisk exec`.

use crate::harness::Test;
use crate::node::{Node, wait_until};
use nix::pty::{OpenptyResult, Winsize, openpty};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Stdio;

pub const TESTS: &[Test] = &[
    (
        "exec_has_streams_codes_and_input",
        exec_has_streams_codes_and_input,
    ),
    (
        "exec_takes_after_the_container",
        exec_takes_after_the_container,
    ),
    ("exec_passes_signals_on", exec_passes_signals_on),
    ("exec_has_a_terminal", exec_has_a_terminal),
    ("exec_goes_to_the_background", exec_goes_to_the_background),
    (
        "exec_ends_though_its_children_do_not",
        exec_ends_though_its_children_do_not,
    ),
];

fn node() -> Node {
    let node = Node::new();
    node.must(&[
        "run", "-d", "--name", "host", "-e", "A=run", "box", "sleep", "1000",
    ]);
    node
}

fn exec_has_streams_codes_and_input() {
    let node = node();
    let done = node.brisk(&["exec", "host", "sh", "-c", "echo out; echo err >&2; exit 9"]);
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.as_str()),
        (9, "out\n", "err\n")
    );
    assert_eq!(
        node.brisk(&["exec", "host", "sh", "-c", "kill -9 $$"]).code,
        137
    );
    let mut running = node.start(&["exec", "-i", "host", "wc", "-c"]);
    running.write(&"x".repeat(300_000));
    running.close_input();
    assert_eq!(running.finish().stdout.trim(), "300000");
    assert_eq!(
        node.must(&["exec", "host", "seq", "1", "50000"])
            .lines()
            .count(),
        50_000
    );
    for (program, code) in [("nosuch", 127), ("/nosuch", 127), ("/etc/passwd", 126)] {
        let done = node.brisk(&["exec", "host", program]);
        assert_eq!(done.code, code, "{program}: {done:?}");
    }
    assert_eq!(node.brisk(&["exec", "nosuch", "true"]).code, 1);
    node.must(&["stop", "host"]);
    let done = node.brisk(&["exec", "host", "true"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("is exited"), "{done:?}");
    node.must(&["rm", "host"]);
    node.assert_clean();
}

fn exec_takes_after_the_container() {
    let node = node();
    let script = "echo $A $B; pwd; id -u; id -g; cat /proc/1/comm";
    let plain = node.must(&["exec", "host", "sh", "-c", script]);
    assert_eq!(plain, "run\n/\n0\n0\nsleep");
    let words = [
        "exec", "-e", "B=exec", "-w", "/data", "-u", "web", "host", "sh", "-c", script,
    ];
    assert_eq!(node.must(&words), "run exec\n/data\n33\n34\nsleep");
    assert_eq!(
        node.brisk(&["exec", "-u", "nobody", "host", "true"]).code,
        125
    );
    let status = "grep -E 'CapEff|Seccomp:' /proc/self/status";
    let inside = node.must(&["exec", "host", "sh", "-c", status]);
    assert!(
        inside.contains("00000000a80425fb") && inside.contains('2'),
        "{inside}"
    );
}

fn exec_passes_signals_on() {
    let node = node();
    let script = "trap 'exit 4' TERM; echo ready; while true; do sleep 0.05; done";
    let mut running = node.start(&["exec", "host", "sh", "-c", script]);
    running.read_until("ready\n");
    running.signal(Signal::TERM);
    assert_eq!(running.finish().code, 4);
    let mut running = node.start(&["exec", "host", "sh", "-c", "echo ready; exec sleep 50"]);
    running.read_until("ready\n");
    running.signal(Signal::INT);
    assert_eq!(running.finish().code, 130);
}

fn exec_has_a_terminal() {
    let node = node();
    let size = Winsize {
        ws_row: 30,
        ws_col: 70,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
    let stdio = || Stdio::from(slave.as_fd().try_clone_to_owned().unwrap());
    let mut child = node
        .command(&[
            "exec",
            "-it",
            "host",
            "sh",
            "-c",
            "stty size; read x; echo got $x; exit 3",
        ])
        .stdin(stdio())
        .stdout(stdio())
        .stderr(stdio())
        .spawn()
        .unwrap();
    let mut terminal = std::fs::File::from(master);
    let mut seen = String::new();
    let mut expect = |terminal: &mut std::fs::File, text: &str| {
        let mut buffer = [0; 512];
        while !seen.contains(text) {
            let count = terminal.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    expect(&mut terminal, "30 70");
    terminal.write_all(b"word\r").unwrap();
    expect(&mut terminal, "got word");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

fn exec_goes_to_the_background() {
    let node = node();
    node.must(&[
        "exec",
        "-d",
        "host",
        "sh",
        "-c",
        "sleep 0.3; echo done >/tmp/result",
    ]);
    let result = || node.brisk(&["exec", "host", "cat", "/tmp/result"]).stdout;
    wait_until("it has worked", || result() == "done\n", result);
    node.must(&["rm", "-f", "host"]);
    node.assert_clean();
}

fn exec_ends_though_its_children_do_not() {
    let node = node();
    let started = std::time::Instant::now();
    assert_eq!(
        node.must(&["exec", "host", "sh", "-c", "sleep 60 & echo here"]),
        "here"
    );
    assert!(started.elapsed().as_secs() < 20);
}
