//! Terminals, which the runtime hands to the shim by a console socket.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::support::text;
use super::work::{Work, runtimes};

/// Waits until the terminal has the caller's size, which ctr sets once the program runs; names it,
/// and ends well when it is answered on it.
const SCRIPT: &str = "until [ \"$(stty size 2>/dev/null)\" = '33 77' ]; do sleep 0.01; done; \
                      test -t 0 && test -t 1 && test -t 2 && tty; read x; test \"$x\" = go && exit 6";

/// Runs a command with the script on a terminal of 33 rows and 77 columns.
fn assert_talks(command: &Command, runtime: &str) {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")))
        .collect();
    let line = format!("stty rows 33 cols 77; {}", words.join(" "));
    let limit = ["--foreground", "-k", "5", "120"];
    let mut child = Command::new("timeout")
        .args(limit)
        .args(["script", "-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = Vec::new();
    // It is answered before it ends: ctr may drop what a program said last.
    while !text(&said).contains("/dev/pts/0") {
        let mut buffer = [0; 256];
        let length = output.read(&mut buffer).unwrap();
        assert!(length > 0, "{runtime}: it ended after {:?}", text(&said));
        said.extend(&buffer[..length]);
    }
    input.write_all(b"go\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(6), "{runtime}");
}

#[test]
fn the_first_process_and_others_get_terminals() {
    for runtime in runtimes() {
        let work = Work::with(&runtime);
        let run = work.run_command(&["--rm", "-t"], "one", &["sh", "-c", SCRIPT]);
        assert_talks(&run, &runtime);

        work.detached(&[], "two", "exec sleep 1234");
        let exec = ["task", "exec", "-t", "--exec-id", "e", "two"];
        let words = [&exec[..], &["sh", "-c", SCRIPT]].concat();
        assert_talks(&work.containerd.ctr_command(&words), &runtime);
        let plain = work.exec(&["--exec-id", "f"], "two", &["tty"]);
        assert_eq!(plain.out, "not a tty\n", "{runtime}");
    }
}
