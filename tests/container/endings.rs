//! Deaths: of the command line, of the monitor, of the service; and giving up.

use crate::harness::Test;
use crate::node::{Node, cgroups, signal, wait_until};
use crate::program::{HOLDS, SLOW};
use rustix::process::Signal;

pub const TESTS: &[Test] = &[
    (
        "the_container_outlives_the_command_line",
        the_container_outlives_the_command_line,
    ),
    (
        "giving_up_while_preparing_leaves_nothing",
        giving_up_while_preparing_leaves_nothing,
    ),
    (
        "giving_up_at_any_moment_leaves_nothing",
        giving_up_at_any_moment_leaves_nothing,
    ),
    (
        "a_killed_monitor_is_cleared_up_after",
        a_killed_monitor_is_cleared_up_after,
    ),
    (
        "the_image_is_given_back_when_the_service_is",
        the_image_is_given_back_when_the_service_is,
    ),
    (
        "after_a_reboot_containers_have_ended",
        after_a_reboot_containers_have_ended,
    ),
];

fn the_container_outlives_the_command_line() {
    let node = Node::new();
    let script = "echo one; sleep 1; i=0; while [ $i -lt 20000 ]; do echo filler $i; \
                  i=$((i+1)); done; echo two; exit 6";
    let mut running = node.start(&["run", "--name", "left", "box", "sh", "-c", script]);
    running.read_until("one\n");
    running.signal(Signal::KILL);
    assert_eq!(running.finish().code, -9);
    assert!(node.must(&["ps"]).contains("left"));
    assert_eq!(node.must(&["wait", "left"]), "6");
    let log = node.must(&["logs", "left"]);
    assert!(
        log.ends_with("filler 19999\ntwo"),
        "{}",
        &log[log.len() - 100..]
    );
    node.must(&["rm", "left"]);
    node.assert_clean();
}

fn giving_up_while_preparing_leaves_nothing() {
    let node = Node::new();
    for (flag, sent, code) in [
        ("--rm", Signal::INT, 130),
        ("--rm", Signal::TERM, 143),
        ("-d", Signal::INT, 130),
        ("-it", Signal::INT, 130),
        ("--rm", Signal::KILL, -9),
    ] {
        let running = node.start(&["run", flag, SLOW]);
        let holds = || {
            std::fs::read_dir(node.images().join(HOLDS))
                .unwrap()
                .count()
        };
        wait_until("the image is asked for", || holds() == 1, String::new);
        assert_eq!(node.containers().len(), 1);
        assert!(node.must(&["ps"]).contains("Creating"));
        running.signal(sent);
        assert_eq!(running.finish().code, code, "{flag} {sent:?}");
        node.assert_clean();
    }
}

fn giving_up_at_any_moment_leaves_nothing() {
    let node = Node::new();
    for step in 0..24u64 {
        let running = node.start(&["run", "--rm", "box", "sleep", "100"]);
        #[allow(clippy::disallowed_methods, reason = "a moment is what is tested")]
        std::thread::sleep(std::time::Duration::from_millis(step * 5));
        let sent = if step % 3 == 0 {
            Signal::TERM
        } else {
            Signal::INT
        };
        running.signal(sent);
        let done = running.finish();
        let number = sent.as_raw();
        // Before the program has made its signals readable, the signal ends it as such.
        assert!(
            [128 + number, -number].contains(&done.code),
            "step {step}: {done:?}"
        );
        assert!(!done.stderr.contains("panicked"), "step {step}: {done:?}");
    }
    node.assert_clean();
}

fn a_killed_monitor_is_cleared_up_after() {
    let node = Node::new();
    let id = node.must(&["run", "-d", "--name", "orphan", "box", "sleep", "100"]);
    let monitors = node.monitors();
    assert_eq!(monitors.len(), 1);
    signal(monitors[0], Signal::KILL);
    wait_until(
        "the monitor is gone",
        || node.monitors().is_empty(),
        String::new,
    );
    assert!(node.must(&["ps"]).contains("Up "), "the container runs on");
    assert_eq!(
        node.brisk(&["exec", "orphan", "sh", "-c", "exit 5"]).code,
        5
    );
    node.must(&["stop", "orphan"]);
    assert!(node.must(&["ps", "-a"]).contains("Exited (unknown)"));
    assert_eq!(node.must(&["wait", "orphan"]), "255");
    node.must(&["rm", "orphan"]);
    assert!(cgroups(&id).is_empty());
    node.assert_clean();
}

fn the_image_is_given_back_when_the_service_is() {
    let node = Node::new();
    let mut running = node.start(&["run", "--rm", "-i", "box", "cat"]);
    running.write("here\n");
    running.read_until("here\n");
    node.set_away(true);
    running.close_input();
    let held = || {
        std::fs::read_dir(node.images().join(HOLDS))
            .unwrap()
            .count()
    };
    #[allow(clippy::disallowed_methods, reason = "long enough for a first try")]
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(held(), 1);
    node.set_away(false);
    assert_eq!(running.finish().code, 0);
    node.assert_clean();
}

fn after_a_reboot_containers_have_ended() {
    let node = Node::new();
    let id = node.must(&["run", "-d", "box", "sleep", "100"]);
    let directory = node.root().join("containers").join(&id);
    let state = std::fs::read_to_string(directory.join("state.json")).unwrap();
    node.must(&["stop", &id]);
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(state.contains(boot.trim()));
    // As the disk looks after the power has failed while it ran.
    let rebooted = state.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    std::fs::write(directory.join("state.json"), rebooted).unwrap();
    assert!(node.must(&["ps", "-a"]).contains("Exited"));
    assert_eq!(node.must(&["ps", "-q"]), "");
    node.must(&["rm", &id]);
    node.assert_clean();
}
