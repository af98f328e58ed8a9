//! In the background: id, log, table, stop, wait, removal.

use crate::harness::Test;
use crate::node::{Node, cgroups, wait_until};
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    ("a_life_in_the_background", a_life_in_the_background),
    ("logs_are_followed_to_the_end", logs_are_followed_to_the_end),
    ("stop_is_polite_first", stop_is_polite_first),
    (
        "stop_waits_no_longer_than_told",
        stop_waits_no_longer_than_told,
    ),
    (
        "stop_gives_time_to_set_a_handler_up",
        stop_gives_time_to_set_a_handler_up,
    ),
    ("wait_tells_the_exit_code", wait_tells_the_exit_code),
    ("kill_sends_any_signal", kill_sends_any_signal),
    (
        "names_belong_to_one_container",
        names_belong_to_one_container,
    ),
    ("rm_refuses_and_forces", rm_refuses_and_forces),
    (
        "an_interactive_one_waits_for_nobody",
        an_interactive_one_waits_for_nobody,
    ),
];

fn a_life_in_the_background() {
    let node = Node::new();
    let script = "echo out; echo err >&2; sleep 100";
    let id = node.must(&[
        "run", "-d", "--name", "web", "-l", "a=b", "box", "sh", "-c", script,
    ]);
    assert_eq!(id.len(), 64);
    assert!(!cgroups(&id).is_empty());
    let table = node.must(&["ps"]);
    assert!(
        table.contains("web") && table.contains("test/box:latest"),
        "{table}"
    );
    assert!(table.contains("Up "), "{table}");
    let json: serde_json::Value = serde_json::from_str(&node.must(&["ps", "--json"])).unwrap();
    assert_eq!(json[0]["id"], id.as_str());
    assert_eq!(json[0]["state"], "running");
    assert_eq!(json[0]["labels"]["a"], "b");
    assert_eq!(node.must(&["ps", "-q"]), id[..12]);
    wait_until(
        "the log has both lines",
        || {
            let done = node.brisk(&["logs", "web"]);
            (done.stdout.as_str(), done.stderr.as_str()) == ("out\n", "err\n")
        },
        String::new,
    );
    assert_eq!(node.must(&["stop", "web"]), "web");
    assert_eq!(node.must(&["ps", "-q"]), "");
    let table = node.must(&["ps", "-a"]);
    assert!(table.contains("Exited (137)"), "{table}");
    assert!(cgroups(&id).is_empty());
    assert_eq!(node.must(&["logs", "web"]), "out", "the log stays");
    assert_eq!(node.must(&["rm", &id[..6]]), id[..6]);
    assert_eq!(node.must(&["ps", "-aq"]), "");
    node.assert_clean();
}

fn logs_are_followed_to_the_end() {
    let node = Node::new();
    let script = "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done; printf end";
    let id = node.must(&["run", "-d", "box", "sh", "-c", script]);
    let followed = node.must(&["logs", "-f", &id]);
    assert_eq!(followed, "line 1\nline 2\nline 3\nline 4\nline 5\nend");
    assert_eq!(node.must(&["logs", "--tail", "2", &id]), "line 5\nend");
    assert_eq!(node.must(&["logs", "--tail", "all", &id]), followed);
    assert!(
        node.must(&["logs", "-t", "-n", "1", &id])
            .ends_with("Z end")
    );
    assert_eq!(node.brisk(&["logs", "nosuch"]).code, 1);
}

fn stop_is_polite_first() {
    let node = Node::new();
    node.add_image("quit", r#"{"Cmd": ["sh"], "StopSignal": "SIGQUIT"}"#);
    let script = "trap 'echo quit; exit 3' QUIT; echo ready; while true; do sleep 0.05; done";
    let id = node.must(&["run", "-d", "quit", "sh", "-c", script]);
    wait_until(
        "it is ready",
        || node.must(&["logs", &id]) == "ready",
        String::new,
    );
    node.must(&["stop", &id]);
    assert_eq!(node.must(&["logs", &id]), "ready\nquit");
    assert_eq!(node.must(&["wait", &id]), "3");
    assert_eq!(
        node.must(&["stop", &id]),
        id,
        "stopping what has ended is no error"
    );
}

fn stop_waits_no_longer_than_told() {
    let node = Node::new();
    let script = "trap '' TERM; echo ready; while true; do sleep 0.05; done";
    let id = node.must(&["run", "-d", "box", "sh", "-c", script]);
    wait_until(
        "it is ready",
        || node.must(&["logs", &id]) == "ready",
        String::new,
    );
    let started = Instant::now();
    node.must(&["stop", "-t", "1", &id]);
    let waited = started.elapsed();
    assert!((1..60).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(node.must(&["wait", &id]), "137");
    // One that would never see the signal is not waited for so long.
    let words = ["run", "-d", "--stop-timeout", "600", "box", "sleep", "1000"];
    let id = node.must(&words);
    let started = Instant::now();
    node.must(&["stop", &id]);
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(60), "{waited:?}");
    assert_eq!(node.must(&["wait", &id]), "137");
}

fn stop_gives_time_to_set_a_handler_up() {
    let node = Node::new();
    let go = node.scratch().join("go");
    let shared = format!("{}:/shared", node.scratch().display());
    let script = "echo ready; while [ ! -e /shared/go ]; do sleep 0.02; done; \
                  trap 'exit 7' TERM; while :; do sleep 0.02; done";
    // A busy machine may take longer over it than stop waits; not ten times.
    let is_heard = || {
        let _ = std::fs::remove_file(&go);
        let words = ["run", "-d", "-v", &shared, "box", "sh", "-c", script];
        let id = node.must(&words);
        let is_ready = || node.must(&["logs", &id]) == "ready";
        wait_until("it is ready", is_ready, String::new);
        let stop = node.start(&["stop", &id]);
        #[allow(clippy::disallowed_methods, reason = "stop is to find no handler")]
        std::thread::sleep(Duration::from_millis(200));
        std::fs::write(&go, "").unwrap();
        assert_eq!(stop.finish().code, 0);
        node.must(&["wait", &id]) == "7"
    };
    assert!((0..10).any(|_| is_heard()));
}

fn wait_tells_the_exit_code() {
    let node = Node::new();
    let words = ["run", "-d", "--rm", "box", "sh", "-c", "sleep 0.5; exit 42"];
    let id = node.must(&words);
    assert_eq!(
        node.must(&["wait", &id]),
        "42",
        "also where --rm removes it"
    );
    node.assert_clean();
    let id = node.must(&["run", "-d", "box", "sh", "-c", "exit 3"]);
    let other = node.must(&["run", "-d", "box", "sh", "-c", "exit 4"]);
    assert_eq!(node.must(&["wait", &id, &other]), "3\n4");
    assert_eq!(node.brisk(&["wait", "nosuch"]).code, 1);
}

fn kill_sends_any_signal() {
    let node = Node::new();
    let script = "trap 'echo one' USR1; trap 'echo rt; exit 5' 37; echo ready; \
                  while true; do sleep 0.05; done";
    let id = node.must(&["run", "-d", "box", "sh", "-c", script]);
    let logs = || node.must(&["logs", &id]);
    wait_until("it is ready", || logs() == "ready", logs);
    node.must(&["kill", "-s", "USR1", &id]);
    wait_until("it has seen the signal", || logs() == "ready\none", logs);
    node.must(&["kill", "-s", "RTMIN+3", &id]);
    assert_eq!(node.must(&["wait", &id]), "5");
    assert_eq!(node.brisk(&["kill", &id]).code, 1, "it has ended");
    assert_eq!(node.brisk(&["kill", "-s", "NOPE", &id]).code, 1);
    let id = node.must(&["run", "-d", "box", "sleep", "100"]);
    node.must(&["kill", &id]);
    assert_eq!(node.must(&["wait", &id]), "137");
}

fn names_belong_to_one_container() {
    let node = Node::new();
    node.must(&["run", "-d", "--name", "one", "box", "sleep", "100"]);
    let done = node.brisk(&["run", "--name", "one", "box", "true"]);
    assert_eq!(done.code, 125, "{done:?}");
    assert!(
        done.stderr.contains("in use") && done.stderr.contains("hint:"),
        "{done:?}"
    );
    assert_eq!(node.containers().len(), 1);
    node.must(&["rm", "-f", "one"]);
    assert_eq!(
        node.brisk(&["run", "--rm", "--name", "one", "box", "true"])
            .code,
        0
    );
    node.assert_clean();
}

fn rm_refuses_and_forces() {
    let node = Node::new();
    let id = node.must(&["run", "-d", "box", "sleep", "100"]);
    let done = node.brisk(&["rm", &id]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("is running"), "{done:?}");
    node.must(&["rm", "-f", &id]);
    assert!(cgroups(&id).is_empty());
    assert_eq!(node.brisk(&["rm", &id]).code, 1, "no such container");
    assert_eq!(node.brisk(&["rm", "-f", &id]).code, 0);
    node.assert_clean();
}

fn an_interactive_one_waits_for_nobody() {
    let node = Node::new();
    let id = node.must(&["run", "-d", "-i", "box", "cat"]);
    let terminal = node.must(&["run", "-d", "-t", "box", "sh", "-c", "tty; stty size"]);
    assert_eq!(node.must(&["wait", &terminal]), "0");
    let log = node.must(&["logs", &terminal]);
    assert!(
        log.starts_with("/dev/pts/0") || log.starts_with("/dev/console"),
        "{log}"
    );
    assert_eq!(node.must(&["ps", "-q"]), id[..12], "its input stays open");
    node.must(&["rm", "-f", &id, &terminal]);
    node.assert_clean();
}
