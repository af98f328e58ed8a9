//! Ctrl-C at any moment of a start.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::lab::Lab;
use crate::support::link::ShapedLink;
use crate::support::node::{Node, mounts_below, processes_of};
use crate::support::registry::{pause, until};
use crate::support::text;

/// Moments at which a start is interrupted, from its first to after its last.
const MOMENTS: u32 = 24;
const LIMIT: Duration = Duration::from_secs(60);

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// IDs of the containers that have a directory.
fn containers(node: &Node) -> Vec<String> {
    let mut names = names_in(&node.root().join("containers"));
    names.retain(|name| name.len() == 64);
    names
}

/// Processes whose command line has that word.
fn processes_with(word: &str) -> Vec<String> {
    let numbers = names_in(Path::new("/proc"));
    let numbers = numbers.into_iter().filter(|n| n.parse::<u32>().is_ok());
    let has_word = |number: &String| {
        let line = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        text(&line).contains(word)
    };
    numbers.filter(has_word).collect()
}

/// Directories of any cgroup hierarchy that are named after one of the containers.
fn cgroups_of(ids: &[String], below: &Path, depth: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if ids.iter().any(|id| name.contains(id)) {
            found.push(entry.path());
        } else if depth > 0 {
            found.extend(cgroups_of(ids, &entry.path(), depth - 1));
        }
    }
    found
}

/// Everything that starts on the node have left behind.
fn leftovers(node: &Node, ids: &[String], marker: &str) -> Vec<String> {
    let root = node.root();
    let shown = |paths: Vec<PathBuf>| paths.into_iter().map(|path| path.display().to_string());
    let monitors = processes_of(&root).into_iter().filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|word| word == b"monitor")
    });
    let mut left: Vec<String> = monitors.map(|pid| format!("monitor {pid}")).collect();
    left.extend(shown(mounts_below(root.parent().unwrap())));
    left.extend(containers(node));
    for directory in ["containers/names", "runtime", "mounts"] {
        left.extend(names_in(&root.join(directory)));
    }
    // The runtime keeps compiled filters beside its containers, for all of them.
    left.retain(|name| name != ".kept:seccomp");
    left.extend(shown(cgroups_of(ids, Path::new("/sys/fs/cgroup"), 4)));
    left.extend(processes_with(marker));
    left
}

/// A child that does not outlive a failing test.
struct Start(Child);

impl Start {
    fn end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < LIMIT, "the interrupt is not heard");
            pause(5);
        }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_start_interrupted_at_any_moment_leaves_nothing() {
    let lab = Lab::new("zoo");
    let link = ShapedLink::start(lab.registry.address(), 40, 60);
    let image = format!("{}/tests/image:latest", link.host());
    // A shell waits for its child before it heeds SIGINT; in its place the last one hears it.
    let marker = format!("1000{:010}", std::process::id());
    let script = format!("cat /zoo/random /zoo/large >/dev/null; exec sleep {marker}");
    let start = |words: &[&str]| {
        let words = [&["run", "--rm", &image], words].concat();
        let mut command: Command = lab.node.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Start(command.spawn().unwrap())
    };
    // How long a start takes here and now.
    let began = Instant::now();
    assert!(start(&["cat", "/zoo/random", "/zoo/large"]).end().success());
    let whole = began.elapsed().min(Duration::from_secs(20));

    let mut ids = Vec::new();
    for moment in 0..MOMENTS {
        // Every other start finds the image's layers here already.
        if moment % 2 == 0 {
            lab.node.brisk(&["prune", "--all"]);
        }
        let mut running = start(&["sh", "-c", &script]);
        let wait = whole * 5 / 4 * moment / MOMENTS;
        pause(u64::try_from(wait.as_millis()).unwrap());
        ids.extend(containers(&lab.node));
        let signal = match moment % 3 {
            0 => Signal::SIGTERM,
            _ => Signal::SIGINT,
        };
        kill(Pid::from_raw(running.0.id() as i32), signal).unwrap();
        let status = running.end();
        // Before brisk has begun to listen, the signal ends it as such.
        let expected = [Some(128 + signal as i32), None];
        let said = running.0.stderr.take().map(std::io::read_to_string);
        assert!(
            expected.contains(&status.code()),
            "moment {moment}: {status} {said:?}"
        );
        let mut left = Vec::new();
        until(&format!("the end of moment {moment}"), LIMIT, || {
            let now = leftovers(&lab.node, &ids, &marker);
            if now != left {
                println!("moment {moment}: {now:?}");
                left = now;
            }
            left.is_empty()
        });
    }
    assert!(!ids.is_empty(), "no start came as far as a container");
    assert_eq!(lab.run(&[], &[]).out, "READY zoo\n");
}
