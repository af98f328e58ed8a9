//! In the foreground: input, terminal, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::lab::Lab;
use crate::support::text;

#[test]
fn input_is_passed_on_when_asked_for() {
    let lab = Lab::new("zoo");
    let mut cat = lab.run_command(&["-i"], &["cat"]);
    let mut cat = cat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = "x".repeat(300_000);
    let mut stdin = cat.stdin.take().unwrap();
    let written = input.clone();
    let writer = std::thread::spawn(move || stdin.write_all(written.as_bytes()).unwrap());
    let output = cat.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && text(&output.stdout) == input);
    assert_eq!(lab.shell(&[], "wc -c"), "0\n");
}

#[test]
fn streams_stay_apart() {
    let lab = Lab::new("zoo");
    let done = lab.run(&[], &["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_terminal_has_the_users_size() {
    let lab = Lab::new("zoo");
    let run = lab.run_command(
        &["-it"],
        &[
            "sh",
            "-c",
            "stty size; test -t 0 && test -t 1 && echo terminal; exit 6",
        ],
    );
    let words: Vec<String> = std::iter::once(run.get_program())
        .chain(run.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let line = format!("stty rows 33 cols 77; {}", words.join(" "));
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "33 77\r\nterminal\r\n", "{output:?}");
    assert_eq!(output.status.code(), Some(6));
}

#[test]
fn signals_reach_the_program() {
    let lab = Lab::new("zoo");
    for (signal, script, code, last) in [
        (
            Signal::SIGTERM,
            "trap 'echo term; exit 9' TERM; echo up; while :; do sleep 0.1; done",
            9,
            "term\n",
        ),
        (
            Signal::SIGUSR1,
            "trap 'echo one; exit 8' USR1; echo up; while :; do sleep 0.1; done",
            8,
            "one\n",
        ),
        // One that does nothing about it ends as it would outside of a container.
        (
            Signal::SIGTERM,
            "echo up; while :; do sleep 0.1; done",
            143,
            "",
        ),
        (
            Signal::SIGINT,
            "echo up; while :; do sleep 0.1; done",
            130,
            "",
        ),
    ] {
        let mut run = lab.run_command(&[], &["sh", "-c", script]);
        let mut run = run.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(run.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        kill(Pid::from_raw(run.id() as i32), signal).unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        let status = run.wait().unwrap();
        assert_eq!(
            (status.code(), rest.as_str()),
            (Some(code), last),
            "{signal} {script}"
        );
    }
    assert_eq!(lab.brisk(&["ps", "-aq"]).out, "");
}
