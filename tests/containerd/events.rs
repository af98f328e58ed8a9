//! What containerd makes known of tasks.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::support::registry::until;
use super::work::{LIMIT, Work, runtimes};

/// `ctr events`, killed with the test.
struct Events {
    child: Child,
    lines: Receiver<String>,
}

impl Events {
    /// Listens; what happens from now on is seen.
    fn of(work: &Work) -> Self {
        let mut command = work.containerd.ctr_command(&["events"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let events = Events { child, lines };
        until("the first event", LIMIT, || {
            let name = work.containerd.name();
            work.containerd.ctr(&["namespaces", "label", name, "a=b"]);
            events.lines.try_recv().is_ok()
        });
        events
    }

    /// Waits until each of these kinds was seen of a container, in whatever order they come.
    fn wait_for(&self, topics: &[&str], container: &str) {
        let mut missing = topics.to_vec();
        while !missing.is_empty() {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|e| panic!("no event {missing:?}: {e}"));
            if line.contains(&format!("\"container_id\":\"{container}\"")) {
                missing.retain(|topic| !line.contains(topic));
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_task_that_ran_out_of_memory_is_an_event() {
    for runtime in runtimes() {
        let work = Work::with(&runtime);
        let events = Events::of(&work);
        // The shim looks at memory once the task has started: it waits until that is said.
        let script =
            "until [ -e /tmp/go ]; do sleep 0.01; done; x=$(tr '\\0' a </dev/zero); exit 7";
        work.detached(&["--memory-limit", "16777216"], "one", script);
        events.wait_for(&["/tasks/create", "/tasks/start"], "one");
        std::fs::write(work.containerd.path("tree/tmp/go"), "").unwrap();
        events.wait_for(&["/tasks/oom", "/tasks/exit"], "one");
    }
}
