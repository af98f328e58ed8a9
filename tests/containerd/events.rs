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

    /// Waits for an event of a kind; what it tells.
    fn next(&self, topic: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|e| panic!("no event {topic}: {e}"));
            if line.contains(topic) {
                return line;
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
        for topic in ["/tasks/create", "/tasks/start"] {
            let event = events.next(topic);
            assert!(
                event.contains("\"container_id\":\"one\""),
                "{runtime}: {event}"
            );
        }
        std::fs::write(work.containerd.path("tree/tmp/go"), "").unwrap();
        let event = events.next("/tasks/oom");
        assert!(
            event.contains("\"container_id\":\"one\""),
            "{runtime}: {event}"
        );
        let event = events.next("/tasks/exit");
        assert!(event.contains("\"exit_status\":"), "{runtime}: {event}");
    }
}
