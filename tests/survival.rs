//! What waits for content survives the death of service and keeper, and what does not need the
//! network never waits for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::images;
use support::link::ShapedLink;
use support::node::Node;
use support::readers::{Known, Readers, Sequence, known_files, verify};
use support::registry::{DockerRegistry, pause, until};
use support::stopped::Stopped;

/// No read may take longer.
const HANG: Duration = Duration::from_secs(30);
/// What needs no network must not take longer, whatever the network does: far below the minutes
/// that a wait for the registry takes, far above what a busy machine takes.
const PROMPT: Duration = Duration::from_secs(5);

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Pushes the python image and its indexes, and gives the reference's path.
fn push_python(registry: &DockerRegistry) -> String {
    let reference = registry.push("python", "survival/python");
    Node::new().brisk(&["index", "push", "--chunk-size", "256KiB", &reference]);
    reference
}

fn python_files() -> Arc<Vec<Known>> {
    let known = known_files(&images::unpacked("python"), 4096);
    assert!(known.len() > 300);
    Arc::new(known)
}

/// Number of a mount's FUSE connection. To be asked for while the service answers.
fn connection_of(directory: &Path) -> u32 {
    fuse::device::connection_id(directory).unwrap()
}

/// How many requests of a mount have no answer yet, as the kernel counts; needs no service.
fn unanswered(connection: u32) -> u64 {
    fuse::device::control_number(connection, "waiting").unwrap()
}

/// Kills the service at a moment when reads of missing content are on their way.
fn kill_while_reads_wait(node: &Node, directory: &Path) {
    let connection = connection_of(directory);
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < HANG, "no read ever waits");
        let status = node.status();
        if status["counters"]["waiting_reads"].as_u64().unwrap() == 0 {
            continue;
        }
        let pid = i32::try_from(status["pid"].as_u64().unwrap()).unwrap();
        // Held still, so that what waits now still waits when it dies.
        let _held = Stopped::new(pid);
        if unanswered(connection) > 0 {
            return signal(pid, Signal::SIGKILL);
        }
    }
}

/// A node whose cache holds a fraction of the image, so that content is missing all the time.
fn small_node() -> Node {
    Node::with_config("[cache]\nbudget = \"24MB\"\n")
}

fn mount_off(node: &Node, reference: &str) -> PathBuf {
    node.mount(&["--background", "off", reference], "mounted")
}

#[test]
fn the_service_is_killed_twenty_times_under_four_readers() {
    let known = python_files();
    let registry = DockerRegistry::start();
    let reference = push_python(&registry);
    let link = ShapedLink::start(registry.address(), 30, 100);
    let node = small_node();
    let reference = reference.replace(&registry.host(), &link.host());
    let directory = mount_off(&node, &reference);
    let readers = Readers::start(4, &directory, known);
    for round in 0..20 {
        kill_while_reads_wait(&node, &directory);
        let before = readers.reads();
        // Every other time nobody but the keeper can start the next service.
        if round % 2 == 0 {
            until("reads after a kill", HANG, || {
                readers.check(HANG);
                readers.reads() >= before + 4
            });
        }
        readers.check(HANG);
    }
    let slowest = readers.finish(HANG);
    let status = node.status();
    assert_eq!(status["counters"]["verification_failures"], 0, "{status}");
    assert_eq!(status["counters"]["background_bytes"], 0, "{status}");
    println!("slowest read {slowest:?}");
}

#[test]
fn a_killed_keeper_is_replaced_and_the_next_service_recovers_by_it() {
    let known = python_files();
    let registry = DockerRegistry::start();
    let reference = push_python(&registry);
    let link = ShapedLink::start(registry.address(), 30, 100);
    let node = small_node();
    let reference = reference.replace(&registry.host(), &link.host());
    let directory = mount_off(&node, &reference);
    let readers = Readers::start(4, &directory, known);
    for _ in 0..2 {
        let service = node.service();
        let keeper = node.keeper().expect("a mount has a keeper");
        signal(keeper, Signal::SIGKILL);
        until("another keeper", HANG, || {
            node.keeper().is_some_and(|pid| pid != keeper)
        });
        until("the keeper to know the mount", HANG, || {
            holds_fuse(node.keeper().unwrap())
        });
        assert_eq!(node.service(), service, "the service lives on");
        readers.check(HANG);
        kill_while_reads_wait(&node, &directory);
        let before = readers.reads();
        until("reads after the kill", HANG, || {
            readers.check(HANG);
            readers.reads() >= before + 4
        });
        assert_ne!(node.service(), service);
    }
    readers.finish(HANG);
}

fn holds_fuse(pid: i32) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == Path::new("/dev/fuse")))
}

fn promptly<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    let took = started.elapsed();
    assert!(took < PROMPT, "{what} took {took:?}");
    result
}

/// Reads places all over the image until `count` reads wait for the registry.
fn wait_by(count: u64, node: &Node, directory: &Path, known: &Arc<Vec<Known>>) -> Vec<WaitingRead> {
    let mut sequence = Sequence::new(77);
    let mut threads = Vec::new();
    let started = Instant::now();
    while node.status()["mounts"][0]["waiting_reads"]
        .as_u64()
        .unwrap()
        < count
    {
        assert!(
            started.elapsed() < HANG,
            "{} reads do not wait",
            threads.len()
        );
        for _ in 0..20 {
            let number = sequence.below(known.len());
            let offset = sequence.below(known[number].content.len()) & !4095;
            let (known, directory) = (known.clone(), directory.to_path_buf());
            threads.push(std::thread::spawn(move || {
                verify(&directory, &known[number], offset, 4096)
            }));
        }
        pause(50);
    }
    threads
}

type WaitingRead = std::thread::JoinHandle<std::io::Result<()>>;

#[test]
fn a_registry_that_hangs_delays_only_what_needs_it() {
    let known = python_files();
    let registry = DockerRegistry::start();
    let reference = push_python(&registry);
    let node = Node::new();
    let directory = mount_off(&node, &reference);
    let cached: Vec<&Known> = known.iter().filter(|k| k.path.starts_with("etc")).collect();
    assert!(!cached.is_empty());
    for file in &cached {
        verify(&directory, file, 0, file.content.len()).unwrap();
    }

    let stopped = Stopped::registry(&registry);
    let waiting = wait_by(200, &node, &directory, &known);
    for (number, file) in known.iter().enumerate().step_by(7) {
        // Most of these names were never looked up.
        let path = directory.join(&file.path);
        let metadata = promptly("stat", || std::fs::metadata(&path).unwrap());
        assert_eq!(metadata.len(), file.content.len() as u64);
        let missing = path.with_file_name(format!("none-{number}"));
        let error = promptly("lookup", || std::fs::metadata(&missing).unwrap_err());
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        promptly("readdir", || {
            std::fs::read_dir(path.parent().unwrap()).unwrap().count()
        });
    }
    for file in &cached {
        promptly("a read of the cache", || {
            verify(&directory, file, 0, file.content.len()).unwrap();
        });
    }
    promptly("status", || node.status());
    assert!(
        node.status()["mounts"][0]["waiting_reads"]
            .as_u64()
            .unwrap()
            >= 200
    );

    drop(stopped);
    for thread in waiting {
        thread.join().unwrap().unwrap();
    }
}

/// A child that is killed when the value is dropped.
struct Blocked {
    name: &'static str,
    child: Child,
}

impl Blocked {
    fn start(name: &'static str, program: &str, arguments: &[&str]) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Blocked { name, child }
    }

    fn ends_when_killed(&mut self) {
        assert!(
            self.child.try_wait().unwrap().is_none(),
            "{} did not block",
            self.name
        );
        self.child.kill().unwrap();
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PROMPT, "{} cannot be killed", self.name);
            pause(5);
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// Python of the host: maps a file and touches its first byte.
const TOUCH: &str = "import mmap, sys\n\
    file = open(sys.argv[1], 'rb')\n\
    mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[0]\n";

#[test]
fn sigkill_ends_whatever_waits_for_a_registry_that_hangs() {
    let registry = DockerRegistry::start();
    let reference = push_python(&registry);
    let node = Node::new();
    let directory = mount_off(&node, &reference);
    let connection = connection_of(&directory);
    let _stopped = Stopped::registry(&registry);
    // A file of its own for each, or they would wait for each other's pages.
    let mut known = known_files(&images::unpacked("python"), 1 << 20);
    known.retain(|k| !k.path.ends_with("python3.11"));
    known.sort_by_key(|k| std::cmp::Reverse(k.content.len()));
    let files: Vec<String> = known
        .iter()
        .map(|k| directory.join(&k.path).display().to_string())
        .collect();
    let interpreter = directory.join("usr/bin/python3.11").display().to_string();
    let input = format!("if={}", files[1]);
    let mut blocked = [
        Blocked::start("cat", "cat", &[&files[0]]),
        Blocked::start(
            "direct read",
            "dd",
            &[&input, "of=/dev/null", "iflag=direct", "bs=64k"],
        ),
        Blocked::start("mmap fault", "python3", &["-c", TOUCH, &files[2]]),
        // Not the child itself, or starting it would wait for the exec.
        Blocked::start("exec", "sh", &["-c", &format!("exec {interpreter}")]),
    ];
    until("four reads to wait", HANG, || {
        node.status()["mounts"][0]["waiting_reads"]
            .as_u64()
            .unwrap()
            >= 4
            && unanswered(connection) >= 4
    });
    for child in &mut blocked {
        child.ends_when_killed();
    }
    promptly("stat", || std::fs::metadata(&interpreter).unwrap());
}

#[test]
fn what_is_here_stays_readable_without_the_registry() {
    let known = python_files();
    let mut registry = DockerRegistry::start();
    let reference = push_python(&registry);
    let node = Node::new();
    let directory = mount_off(&node, &reference);
    let cached: Vec<&Known> = known.iter().step_by(20).collect();
    for file in &cached {
        verify(&directory, file, 0, file.content.len()).unwrap();
    }
    registry.stop();
    for again in 0..2 {
        for file in &cached {
            promptly("a read of the cache", || {
                verify(&directory, file, 0, file.content.len()).unwrap();
            });
        }
        for file in known.iter() {
            let metadata = std::fs::metadata(directory.join(&file.path)).unwrap();
            assert_eq!(metadata.len(), file.content.len() as u64);
        }
        if again == 0 {
            let service = node.service();
            signal(service, Signal::SIGKILL);
            // A page that is in memory needs no service at all.
            let mut byte = [0];
            let file = File::open(directory.join(&cached[0].path)).unwrap();
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, 0).unwrap();
            assert_ne!(node.service(), service);
        }
    }
}
