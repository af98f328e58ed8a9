//! A task's life by `ctr`: ends, processes, exec, pause, kill, delete, metrics, a dead shim.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::registry::until;
use super::work::{LIMIT, Work, runtimes};

#[test]
fn ends_and_streams_arrive() {
    for runtime in runtimes() {
        let work = Work::with(&runtime);
        let ran = |words: &[&str]| work.run(&["--rm"], "one", words);
        let done = ran(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!(
            (done.code, done.out.as_str(), done.err.as_str()),
            (3, "out\n", "err\n"),
            "{runtime}"
        );

        let done = ran(&["sh", "-c", "sleep 1000 & kill -9 $!; wait $!"]);
        assert_eq!(done.code, 137, "{runtime}: {done:?}");
        // What the runtime writes to its log is what ctr says.
        let done = ran(&["nosuch"]);
        assert_eq!(done.code, 1, "{runtime}: {done:?}");
        let words = "exec: \"nosuch\": executable file not found in $PATH";
        assert!(done.err.contains(words), "{runtime}: {done:?}");
        work.assert_gone("one");
        assert_eq!(work.containerd.ctr(&["containers", "ls", "-q"]), "");
    }
}

#[test]
fn a_detached_task_lives_through_every_verb() {
    for runtime in runtimes() {
        let work = Work::with(&runtime);
        let flags = ["--memory-limit", "67108864", "--cpu-shares", "300"];
        let script = "trap 'exit 5' TERM; echo $$ >/dev/null; while :; do sleep 0.05; done";
        work.detached(&flags, "one", script);
        let (pid, status) = work.status("one").unwrap();
        assert_eq!(status, "RUNNING", "{runtime}");
        let file = |hierarchy, name| work.cgroup_file(hierarchy, "one", name);
        assert_eq!(file("memory", "memory.limit_in_bytes"), "67108864");
        assert_eq!(file("cpu", "cpu.shares"), "300");
        let inside = file("pids", "cgroup.procs");
        assert!(inside.lines().any(|line| line == pid.to_string()));

        let listed = work.task(&["ps", "one"]).out;
        assert!(listed.contains(&format!("\n{pid} ")), "{runtime}: {listed}");

        let done = work.exec(
            &["--exec-id", "e"],
            "one",
            &["sh", "-c", "echo in; echo no >&2; exit 4"],
        );
        assert_eq!(
            (done.code, done.out.as_str(), done.err.as_str()),
            (4, "in\n", "no\n"),
            "{runtime}"
        );
        let done = work.exec(&["--exec-id", "e"], "one", &["nosuch"]);
        let words = "exec: \"nosuch\": executable file not found in $PATH";
        assert!(done.code == 1 && done.err.contains(words), "{done:?}");
        // One that stays, and is a process of the container.
        let done = work.exec(&["-d", "--exec-id", "s"], "one", &["sleep", "1234"]);
        assert_eq!(done.code, 0, "{runtime}: {done:?}");
        let sleeps = || file("pids", "cgroup.procs").lines().any(is_the_sleeper);
        until("the second process", LIMIT, sleeps);
        let done = work.task(&["kill", "--exec-id", "s", "-s", "SIGKILL", "one"]);
        assert_eq!(done.code, 0, "{runtime}: {done:?}");
        until("the end of the second process", LIMIT, || !sleeps());

        let metrics = work.task(&["metrics", "--format", "json", "one"]).out;
        let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
        assert_eq!(metrics["memory"]["usage"]["limit"], 67_108_864, "{metrics}");
        assert!(
            metrics["pids"]["current"].as_u64().unwrap() >= 1,
            "{metrics}"
        );
        assert!(
            metrics["cpu"]["usage"]["total"].as_u64().unwrap() > 0,
            "{metrics}"
        );

        assert_eq!(work.task(&["pause", "one"]).code, 0, "{runtime}");
        assert_eq!(work.status("one").unwrap().1, "PAUSED", "{runtime}");
        assert_eq!(file("freezer", "freezer.state"), "FROZEN", "{runtime}");
        let done = work.exec(&["--exec-id", "e"], "one", &["true"]);
        assert!(done.err.contains("paused"), "{runtime}: {done:?}");
        assert_eq!(work.task(&["resume", "one"]).code, 0, "{runtime}");
        assert_eq!(work.status("one").unwrap(), (pid, "RUNNING".to_owned()));

        let done = work.task(&["delete", "one"]);
        assert!(done.err.contains("must be stopped"), "{runtime}: {done:?}");
        assert_eq!(work.task(&["kill", "one"]).code, 0, "{runtime}");
        work.wait_for("one", "STOPPED");
        let done = work.task(&["kill", "one"]);
        assert!(done.err.contains("process already finished"), "{done:?}");
        let done = work.task(&["delete", "one"]);
        assert!(done.err.contains("exit code 5"), "{runtime}: {done:?}");
        work.containerd.ctr(&["containers", "rm", "one"]);
        work.assert_gone("one");
    }
}

/// True for the process that was started into the container.
fn is_the_sleeper(pid: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.ends_with(b"\x001234\0")
}

#[test]
fn a_signal_for_all_reaches_more_than_the_first() {
    for runtime in runtimes() {
        let work = Work::with(&runtime);
        // The first process handles the signal; those that it started end by it.
        let script = "trap : USR1; sleep 1234 & sleep 1234 & while :; do wait; sleep 0.05; done";
        work.detached(&[], "one", script);
        let sleepers = || {
            let inside = work.cgroup_file("pids", "one", "cgroup.procs");
            inside.lines().filter(|pid| is_the_sleeper(pid)).count()
        };
        until("two processes", LIMIT, || sleepers() == 2);
        let done = work.task(&["kill", "--all", "-s", "SIGUSR1", "one"]);
        assert_eq!(done.code, 0, "{runtime}: {done:?}");
        until("their end", LIMIT, || sleepers() == 0);
        assert_eq!(work.status("one").unwrap().1, "RUNNING", "{runtime}");
        assert_eq!(work.task(&["kill", "-s", "9", "one"]).code, 0, "{runtime}");
        work.wait_for("one", "STOPPED");
        let done = work.task(&["delete", "one"]);
        assert!(done.err.contains("exit code 137"), "{runtime}: {done:?}");
        work.assert_gone("one");
    }
}

#[test]
fn a_dead_shim_leaves_no_container() {
    for runtime in runtimes() {
        let work = Work::with(&runtime);
        work.detached(&[], "one", "exec sleep 1234");
        let (first, _) = work.status("one").unwrap();
        let shims = work.containerd.processes();
        let shims: Vec<_> = shims
            .iter()
            .filter(|pid| **pid != work.containerd.pid())
            .collect();
        assert_eq!(shims.len(), 1, "{runtime}: {shims:?}");
        let sockets = work.containerd.shim_sockets();
        kill(Pid::from_raw(*shims[0]), Signal::SIGKILL).unwrap();
        until("the container's end", LIMIT, || {
            work.status("one").is_none()
        });
        until("its first process's end", LIMIT, || {
            !is_the_sleeper(&first.to_string())
        });
        until("the end of all that it had", LIMIT, || {
            work.left("one").is_empty()
        });
        assert_eq!(sockets.len(), 1, "{runtime}");
        for socket in sockets {
            // Nobody else takes away what a killed shim listened on.
            let _ = std::fs::remove_file(socket);
        }
    }
}
