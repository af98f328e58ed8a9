//! In the foreground: streams, exit codes, signals, terminals.

use crate::harness::Test;
use crate::node::{Node, wait_until};
use nix::pty::{OpenptyResult, Winsize, openpty};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Stdio;

pub const TESTS: &[Test] = &[
    ("exit_codes_are_the_programs", exit_codes_are_the_programs),
    (
        "failures_have_dockers_exit_codes",
        failures_have_dockers_exit_codes,
    ),
    ("the_streams_stay_apart", the_streams_stay_apart),
    (
        "input_reaches_the_program_and_ends",
        input_reaches_the_program_and_ends,
    ),
    (
        "large_output_is_whole_for_a_slow_reader",
        large_output_is_whole_for_a_slow_reader,
    ),
    (
        "a_reader_that_leaves_ends_the_program",
        a_reader_that_leaves_ends_the_program,
    ),
    ("signals_are_passed_on", signals_are_passed_on),
    (
        "a_program_deaf_to_a_signal_ends_by_it",
        a_program_deaf_to_a_signal_ends_by_it,
    ),
    (
        "a_terminal_has_size_input_and_signals",
        a_terminal_has_size_input_and_signals,
    ),
    (
        "piped_input_ends_a_terminals_program",
        piped_input_ends_a_terminals_program,
    ),
    ("many_at_once", many_at_once),
];

fn exit_codes_are_the_programs() {
    let node = Node::new();
    for code in [0, 1, 7, 125, 255] {
        assert_eq!(node.shell(&[], &format!("exit {code}")).code, code);
    }
    assert_eq!(node.shell(&[], "sh -c 'kill -9 $$'; exit $?").code, 137);
    node.assert_clean();
}

fn failures_have_dockers_exit_codes() {
    let node = Node::new();
    for (words, code, text) in [
        (vec!["box", "nosuch"], 127, "nosuch"),
        (vec!["box", "/nosuch"], 127, "nosuch"),
        (vec!["box", "/etc/passwd"], 126, "permission denied"),
        (vec!["nosuch", "true"], 125, "no image nosuch"),
        (
            vec!["-u", "nobody", "box", "true"],
            125,
            "no user \"nobody\"",
        ),
        (vec!["--hostname", "a b", "box", "true"], 125, "--hostname"),
        (vec!["-w", "/etc/passwd", "box", "true"], 125, "/etc/passwd"),
        (
            vec!["--cap-add", "FLY", "box", "true"],
            125,
            "no such capability",
        ),
        (
            vec!["-v", "/proc/1/nosuch/dir:/x", "box", "true"],
            125,
            "/proc/1/nosuch",
        ),
    ] {
        let done = node.brisk(&[&["run", "--rm"], words.as_slice()].concat());
        assert_eq!(done.code, code, "{words:?}: {done:?}");
        assert!(
            done.stderr.to_lowercase().contains(text),
            "{words:?}: {done:?}"
        );
        assert_eq!(done.stdout, "", "{words:?}");
        node.assert_clean();
    }
    // Without --rm, too: what never ran is no container.
    assert_eq!(node.brisk(&["run", "box", "nosuch"]).code, 127);
    assert_eq!(node.brisk(&["run", "-d", "box", "nosuch"]).code, 127);
    assert_eq!(node.brisk(&["run", "-it", "box", "nosuch"]).code, 127);
    node.assert_clean();
}

fn the_streams_stay_apart() {
    let node = Node::new();
    let done = node.shell(&[], "echo out; echo err >&2; printf end");
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\nend", "err\n")
    );
    assert_eq!(
        node.shell(&[], "cat; echo done").stdout,
        "done\n",
        "no input without -i"
    );
}

fn input_reaches_the_program_and_ends() {
    let node = Node::new();
    let mut running = node.start(&["run", "--rm", "-i", "box", "cat"]);
    running.write("one\n");
    running.read_until("one\n");
    running.write("two\n");
    running.read_until("two\n");
    running.close_input();
    assert_eq!(running.finish().code, 0);
    let mut running = node.start(&["run", "--rm", "-i", "box", "wc", "-c"]);
    running.write(&"x".repeat(1 << 20));
    running.close_input();
    assert_eq!(running.finish().stdout.trim(), (1 << 20).to_string());
    node.assert_clean();
}

fn large_output_is_whole_for_a_slow_reader() {
    let node = Node::new();
    let script = "seq 1 300000; echo last >&2";
    let mut child = node
        .command(&["run", "--rm", "box", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The container ends long before its output is read.
    let mut seen = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = vec![0; 50_000];
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        seen.extend_from_slice(&buffer[..count]);
        #[allow(clippy::disallowed_methods, reason = "a slow reader is what is tested")]
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(
        seen == expected.as_bytes(),
        "{} of {} bytes",
        seen.len(),
        expected.len()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stderr, b"last\n");
    assert!(output.status.success());
    node.assert_clean();
}

fn a_reader_that_leaves_ends_the_program() {
    let node = Node::new();
    let mut running = node.start(&["run", "--rm", "box", "yes"]);
    running.read_until("y\ny\n");
    running.close_output();
    assert_ne!(running.finish().code, 0);
    node.assert_clean();
}

fn signals_are_passed_on() {
    let node = Node::new();
    let script = "trap 'echo usr1' USR1; trap 'echo term; exit 7' TERM; echo ready; \
                  while true; do sleep 0.05; done";
    let mut running = node.start(&["run", "--rm", "box", "sh", "-c", script]);
    running.read_until("ready\n");
    running.signal(Signal::USR1);
    running.read_until("usr1\n");
    running.signal(Signal::TERM);
    let done = running.finish();
    assert_eq!((done.code, done.stdout.as_str()), (7, "term\n"));
    node.assert_clean();
}

fn a_program_deaf_to_a_signal_ends_by_it() {
    let node = Node::new();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let words = [
            "run",
            "--rm",
            "box",
            "sh",
            "-c",
            "echo ready; exec sleep 100",
        ];
        let mut running = node.start(&words);
        running.read_until("ready\n");
        let id = node.containers().pop().unwrap();
        let stat = || {
            let state = std::fs::read(node.root().join("containers").join(&id).join("state.json"));
            let state: serde_json::Value = serde_json::from_slice(&state.unwrap()).unwrap();
            std::fs::read_to_string(format!("/proc/{}/comm", state["init"]["pid"])).unwrap()
        };
        wait_until("sleep is executed", || stat() == "sleep\n", stat);
        running.signal(signal);
        assert_eq!(running.finish().code, code);
    }
    node.assert_clean();
}

fn a_terminal_has_size_input_and_signals() {
    let node = Node::new();
    let size = Winsize {
        ws_row: 33,
        ws_col: 77,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
    let before = nix::sys::termios::tcgetattr(&slave).unwrap();
    let script = "stty size; read line; echo \"got $line\"; trap 'echo resized' WINCH; \
                  trap 'echo interrupted; exit 9' INT; echo ready; while true; do sleep 0.05; done";
    let stdio = || Stdio::from(slave.as_fd().try_clone_to_owned().unwrap());
    let mut child = node
        .command(&["run", "--rm", "-it", "box", "sh", "-c", script])
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
    expect(&mut terminal, "33 77");
    terminal.write_all(b"hello\r").unwrap();
    expect(&mut terminal, "got hello");
    expect(&mut terminal, "ready");
    let larger = rustix::termios::Winsize {
        ws_row: 40,
        ws_col: 90,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&terminal, larger).unwrap();
    crate::node::signal(i32::try_from(child.id()).unwrap(), Signal::WINCH);
    expect(&mut terminal, "resized");
    // ^C: a byte to us, a signal in the container's own terminal.
    terminal.write_all(&[3]).unwrap();
    expect(&mut terminal, "interrupted");
    assert_eq!(child.wait().unwrap().code(), Some(9));
    let after = nix::sys::termios::tcgetattr(&slave).unwrap();
    assert_eq!(before.local_flags, after.local_flags);
    assert_eq!(before.output_flags, after.output_flags);
    assert_eq!(before.input_flags, after.input_flags);
    node.assert_clean();
}

fn piped_input_ends_a_terminals_program() {
    let node = Node::new();
    let mut running = node.start(&["run", "--rm", "-it", "box", "cat"]);
    running.write("word\n");
    running.read_until("word");
    running.close_input();
    let done = running.finish();
    assert_eq!(done.code, 0, "{done:?}");
    node.assert_clean();
}

fn many_at_once() {
    let node = Node::new();
    let running: Vec<_> = (0..6)
        .map(|number| node.start(&["run", "--rm", "box", "sh", "-c", &format!("exit {number}")]))
        .collect();
    for (number, running) in running.into_iter().enumerate() {
        let done = running.finish();
        assert_eq!(done.code, i32::try_from(number).unwrap(), "{done:?}");
    }
    node.assert_clean();
}
