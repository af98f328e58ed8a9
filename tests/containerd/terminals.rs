//! Terminals, which the runtime hands to the shim by a console socket.

use std::process::{Command, Output, Stdio};

use super::support::text;
use super::work::{Work, runtimes};

/// Waits until the terminal has the caller's size, which ctr sets once the program runs.
const SCRIPT: &str = "until [ \"$(stty size 2>/dev/null)\" = '33 77' ]; do sleep 0.01; done; \
                      test -t 0 && test -t 1 && test -t 2 && tty; exit 6";

/// Runs a command on a terminal of 33 rows and 77 columns.
fn on_a_terminal(command: &Command) -> Output {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")))
        .collect();
    let line = format!("stty rows 33 cols 77; {}", words.join(" "));
    Command::new("timeout")
        .args([
            "--foreground",
            "-k",
            "5",
            "120",
            "script",
            "-qec",
            &line,
            "/dev/null",
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The script's outcome, of a terminal that is the container's first.
fn assert_ran(output: &Output, runtime: &str) {
    let said = text(&output.stdout);
    // Terminals on the way add line ends and an echo of the end of input.

    assert!(said.contains("/dev/pts/0\r"), "{runtime}: {output:?}");
    assert_eq!(output.status.code(), Some(6), "{runtime}: {output:?}");
}

#[test]
fn the_first_process_and_others_get_terminals() {
    for runtime in runtimes() {
        let work = Work::with(&runtime);
        let run = work.run_command(&["--rm", "-t"], "one", &["sh", "-c", SCRIPT]);
        assert_ran(&on_a_terminal(&run), &runtime);

        work.detached(&[], "two", "exec sleep 1234");
        let exec = ["task", "exec", "-t", "--exec-id", "e", "two"];
        let words = [&exec[..], &["sh", "-c", SCRIPT]].concat();
        let command = work.containerd.ctr_command(&words);
        assert_ran(&on_a_terminal(&command), &runtime);
        let plain = work.exec(&["--exec-id", "f"], "two", &["tty"]);
        assert_eq!(plain.out, "not a tty\n", "{runtime}");
    }
}
