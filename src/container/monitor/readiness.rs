//! When a container counts as ready: its first output, its first listening port, or a time that
//! its user has named.

use crate::options::RunOptions;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Pause between two looks for a listening port. A look reads two files where nobody listens.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// A container that neither writes nor listens for so long is looked at no more.
const LOOK_LIMIT: Duration = Duration::from_secs(600);
/// State of a listening socket in /proc/PID/net/tcp (`TCP_LISTEN` of include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// Watches for the moment.
#[derive(Debug)]
pub struct Readiness {
    init: i32,
    started: Instant,
    after: Option<Duration>,
    looked: Instant,
    done: bool,
}

impl Readiness {
    /// For a container that starts now with that first process.
    pub fn new(options: &RunOptions, init: i32) -> Readiness {
        let now = Instant::now();
        Readiness {
            init,
            started: now,
            after: options.ready_after_ms.map(Duration::from_millis),
            looked: now,
            done: false,
        }
    }

    /// True once: when the container has become ready.
    pub fn is_reached(&mut self, has_written: bool) -> bool {
        if self.done {
            return false;
        }
        let reached = match self.after {
            Some(after) => self.started.elapsed() >= after,
            None => has_written || self.listens(),
        };
        self.done = reached || (self.after.is_none() && self.started.elapsed() > LOOK_LIMIT);
        reached
    }

    /// How long to wait at most before the next look.
    pub fn next_look(&self) -> Option<Duration> {
        let remaining = match self.after {
            _ if self.done => return None,
            Some(after) => after.saturating_sub(self.started.elapsed()),
            None => LOOK_PAUSE.saturating_sub(self.looked.elapsed()),
        };
        // Rounded up: a look that comes too early would be followed by many.
        Some(remaining + Duration::from_millis(1))
    }

    fn listens(&mut self) -> bool {
        if self.looked.elapsed() < LOOK_PAUSE {
            return false;
        }
        self.looked = Instant::now();
        let process = Path::new("/proc").join(self.init.to_string());
        let listening: HashSet<String> = ["net/tcp", "net/tcp6"]
            .into_iter()
            .filter_map(|name| fs::read_to_string(process.join(name)).ok())
            .flat_map(|table| listeners(&table))
            .collect();
        // With the host's network the table has everybody's sockets.
        !listening.is_empty() && holds_one_of(&process, &listening)
    }
}

/// The inodes of the listening sockets of a table as /proc/PID/net/tcp has it.
fn listeners(table: &str) -> Vec<String> {
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_listening = fields.get(3) == Some(&LISTEN);
        fields
            .get(9)
            .filter(|_| is_listening)
            .map(|inode| (*inode).to_owned())
    };
    table.lines().filter_map(inode).collect()
}

/// Whether some process of the container, those of its first process's PID namespace, has one of
/// these sockets.
fn holds_one_of(init: &Path, sockets: &HashSet<String>) -> bool {
    let namespace = |process: &Path| {
        let file = fs::metadata(process.join("ns/pid")).ok()?;
        Some((file.dev(), file.ino()))
    };
    let Some(own) = namespace(init) else {
        return false;
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .map(|entry| entry.path())
        .filter(|process| namespace(process) == Some(own))
        .flat_map(|process| {
            fs::read_dir(process.join("fd"))
                .into_iter()
                .flatten()
                .flatten()
        })
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| {
            let target = target.to_string_lossy();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| sockets.contains(inode))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    fn own() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn a_listening_port_of_its_processes_makes_it_ready() {
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut readiness = Readiness::new(&RunOptions::default(), own());
        assert!(!readiness.is_reached(false), "looked too early");
        readiness.looked = Instant::now() - LOOK_PAUSE;
        assert!(readiness.is_reached(false));
        assert!(!readiness.is_reached(true), "told twice");
        assert_eq!(readiness.next_look(), None);
    }

    #[test]
    fn sockets_of_others_and_connected_ones_do_not_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
             1: 0100007F:1388 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(listeners(table), ["4711"]);
        let others: HashSet<String> = listeners(table).into_iter().collect();
        let process = Path::new("/proc").join(own().to_string());
        assert!(!holds_one_of(&process, &others));
    }

    #[test]
    fn output_makes_it_ready_unless_a_time_was_named() {
        let mut readiness = Readiness::new(&RunOptions::default(), own());
        assert!(readiness.is_reached(true));
        let options = RunOptions {
            ready_after_ms: Some(3_600_000),
            ..RunOptions::default()
        };
        let mut readiness = Readiness::new(&options, own());
        assert!(!readiness.is_reached(true));
        assert!(readiness.next_look() > Some(Duration::from_secs(3590)));
        readiness.started = Instant::now() - Duration::from_secs(3600);
        assert!(readiness.is_reached(false));
    }
}
