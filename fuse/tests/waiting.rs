//! Reads that wait: they can be killed, and they hold up nobody else. Needs root and /dev/fuse.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for other processes and the kernel"
)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use fuse::MountOptions;
use nix::sys::signal::Signal;

use crate::support::image::{Layer, Meta, pattern};
use crate::support::{LONG, Served, until};

const FILE: usize = 1 << 20;

/// More than the kernel reads ahead, so that part of every read is a background request.
const HELD: usize = 200_000;

fn image() -> Vec<Layer> {
    let mut layer = Layer::default();
    layer
        .directory("", Meta::mode(0o755))
        .file("held", Meta::mode(0o644), &pattern(1, FILE))
        .file("free", Meta::mode(0o644), &pattern(2, FILE));
    for number in 0..200 {
        layer.file(
            &format!("held-{number}"),
            Meta::mode(0o644),
            &pattern(number, HELD),
        );
        layer.file(
            &format!("free-{number}"),
            Meta::mode(0o644),
            &pattern(1000 + number, 5000),
        );
    }
    vec![layer]
}

fn spawn(program: &str, arguments: &[&str], path: &Path) -> Child {
    let mut command = Command::new(program);
    for argument in arguments {
        command.arg(argument.replace("PATH", path.to_str().unwrap()));
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills `child` while its reads wait, and expects it to be gone in two seconds.
fn kill_while_it_waits(served: &Served, mut child: Child) {
    served.until_waiting(1);
    let start = Instant::now();
    child.kill().unwrap();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
            break;
        }
        if start.elapsed() > Duration::from_secs(2) {
            // Let it go before the test fails, or it would stay in D state.
            served.mount.abort();
            panic!("still there two seconds after SIGKILL");
        }
        thread::sleep(Duration::from_millis(10));
    }
    // Its own reads are answered, and nothing was read out of turn.
    until("the reads of the dead", || served.waiting.waiting() == 0);
    assert!(served.waiting.outstanding() > 0, "the fetches go on");
}

#[test]
fn a_buffered_reader_can_be_killed() {
    let served = Served::new(image());
    served.hold("held", 0);
    kill_while_it_waits(&served, spawn("cat", &["PATH"], &served.join("held")));
}

#[test]
fn a_direct_reader_can_be_killed() {
    let served = Served::new(image());
    served.hold("held", 0);
    let arguments = ["if=PATH", "of=/dev/null", "iflag=direct", "bs=64k"];
    kill_while_it_waits(&served, spawn("dd", &arguments, &served.join("held")));
}

#[test]
fn a_process_in_a_page_fault_can_be_killed() {
    // A program whose first page is there, so that it can be executed, and whose code is not.
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut layer = Layer::default();
    layer
        .directory("", Meta::mode(0o755))
        .file("program", Meta::mode(0o755), &program);
    let served = Served::new(vec![layer]);
    // Beyond what the kernel reads ahead when it looks at the first page.
    served.hold("program", 256 * 1024);
    let path = served.join("program");
    let child = thread::spawn(move || spawn(path.to_str().unwrap(), &["--list"], Path::new("")));
    served.until_waiting(1);
    until("exec", || child.is_finished());
    kill_while_it_waits(&served, child.join().unwrap());
}

#[test]
fn ordinary_signals_do_not_end_a_read() {
    let served = Served::new(image());
    served.hold("held", 0);
    // dd handles SIGUSR1, so the signal interrupts the wait without ending the process.
    let arguments = ["if=PATH", "of=/dev/null", "iflag=direct", "bs=64k"];
    let mut child = spawn("dd", &arguments, &served.join("held"));
    served.until_waiting(1);
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    for _ in 0..5 {
        nix::sys::signal::kill(pid, Signal::SIGUSR1).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(served.waiting.waiting(), 1, "still waiting");
    served.content.release();
    until("dd", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_second_reader_of_the_same_page_outlives_the_first() {
    let served = Served::new(image());
    served.hold("held", 0);
    let first = spawn("cat", &["PATH"], &served.join("held"));
    served.until_waiting(1);
    let path = served.join("held");
    let second = thread::spawn(move || fs::read(path));
    // It waits for the first one's page, so there is no request to see.
    thread::sleep(Duration::from_millis(200));
    let mut first = first;
    first.kill().unwrap();
    first.wait().unwrap();
    served.until_waiting(1);
    assert!(!second.is_finished());
    served.content.release();
    until("the second reader", || second.is_finished());
    assert!(second.join().unwrap().unwrap() == pattern(1, FILE));
}

/// With fuser's default of 16 background requests, this hangs.
#[test]
fn waiting_reads_delay_nobody_else() {
    for threads in [1, 2] {
        let served = Served::with(image(), threads, &MountOptions::default());
        for number in 0..200 {
            served.hold(&format!("held-{number}"), 0);
        }
        let (sender, answers) = channel();
        for number in 0..200u64 {
            let (path, sender) = (served.join(&format!("held-{number}")), sender.clone());
            thread::spawn(move || {
                let direct = if number % 2 == 0 {
                    nix::fcntl::OFlag::O_DIRECT.bits()
                } else {
                    0
                };
                let file = File::options()
                    .read(true)
                    .custom_flags(direct)
                    .open(path)
                    .unwrap();
                let mut bytes = vec![0; HELD];
                let result = file.read_exact_at(&mut bytes, 0).map(|()| bytes);
                // Nobody listens any more when the test has failed.
                sender.send((number, result)).ok();
            });
        }
        served.until_waiting(200);
        let (sender, others) = channel();
        let root = served.mount.path().to_owned();
        thread::spawn(move || {
            let start = Instant::now();
            assert_eq!(fs::read_dir(&root).unwrap().count(), 402);
            assert!(fs::metadata(root.join("nothing")).is_err());
            for number in 0..200 {
                let path = root.join(format!("free-{number}"));
                assert_eq!(fs::metadata(&path).unwrap().len(), 5000);
                assert!(fs::read(&path).unwrap() == pattern(1000 + number, 5000));
            }
            sender.send(start.elapsed()).unwrap();
        });
        let took = others.recv_timeout(LONG).expect("others are not held up");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(served.waiting.waiting(), 200);
        served.content.release();
        for _ in 0..200 {
            let (number, result) = answers.recv_timeout(LONG).unwrap();
            assert!(result.unwrap() == pattern(number, HELD), "held-{number}");
        }
        until("all to be answered", || served.waiting.waiting() == 0);
    }
}

#[test]
fn an_abort_ends_readers_and_server() {
    let mut served = Served::new(image());
    served.hold("held", 0);
    let path = served.join("held");
    let reader = thread::spawn(move || fs::read(path));
    served.until_waiting(1);
    served.end().unwrap();
    until("the reader", || reader.is_finished());
    assert!(reader.join().unwrap().is_err());
}

#[test]
fn unmounting_ends_the_server() {
    let mut served = Served::new(image());
    assert_eq!(fs::read(served.join("free")).unwrap().len(), FILE);
    let server = served.take_server();
    nix::mount::umount2(served.mount.path(), nix::mount::MntFlags::empty()).unwrap();
    until("the server to end", || server.is_finished());
    server.join().unwrap().unwrap();
}
