//! A mount outlives its servers: what was read by one that is killed is answered by the next.
//! Needs root, /dev/fuse and Linux 6.9.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for other processes and the kernel"
)]

mod support;

use std::env;
use std::fs::{self, File};
use std::io::{Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fuse::init::InitRequest;
use fuse::{Content, Done, MountOptions, MountedTree, Piece, Session, WaitingReads, settle};
use index_format::Index;
use nix::fcntl::OFlag;

use crate::support::image::{Layer, Meta, merged, pattern};
use crate::support::memory::Memory;
use crate::support::{Mount, options, until};

const FILE: usize = 4 << 20;
const FILES: u64 = 4;

/// Tells the server process where its files are, and with the others how to behave.
const DIRECTORY: &str = "BRISK_FUSE_TEST_DIRECTORY";
const DELAY_MS: &str = "BRISK_FUSE_TEST_DELAY_MS";
const RESUMING: &str = "BRISK_FUSE_TEST_RESUMING";

/// Answers every read late, from another thread.
struct Slow {
    memory: Arc<Memory>,
    delay: Duration,
}

impl Content for Slow {
    fn read(&self, pieces: Vec<Piece>, done: Done) {
        let (memory, delay) = (Arc::clone(&self.memory), self.delay);
        thread::spawn(move || {
            thread::sleep(delay);
            done(Ok(&memory.bytes(&pieces)));
        });
    }
}

/// Not a test: the server process, which the tests below start and kill. Its standard input is
/// the device.
#[test]
#[ignore = "entry point of the server process"]
fn server_process() {
    let Ok(directory) = env::var(DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory);
    let index = index_in(directory);
    let memory = Arc::new(Memory::new(vec![
        fs::read(directory.join("stream")).unwrap(),
    ]));
    let delay = Duration::from_millis(env::var(DELAY_MS).unwrap().parse().unwrap());
    let tree = MountedTree::new(index, Arc::new(Slow { memory, delay })).unwrap();
    let device = stdin().as_fd().try_clone_to_owned().unwrap();
    let init = fs::read(directory.join("init")).unwrap();
    let waiting = Arc::new(WaitingReads::default());
    let resuming = env::var(RESUMING).unwrap() == "yes";
    let session = Session::adopt(device, &init, tree, options(2, resuming, &waiting)).unwrap();
    session.run().unwrap();
}

fn index_in(directory: &Path) -> Index {
    Index::open(fs::read(directory.join("index")).unwrap()).unwrap()
}

/// A server in another process; killed and reaped when it goes.
struct Server(Child);

impl Server {
    fn start(mount: &Mount, directory: &Path, delay_ms: u64, resuming: bool) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "server_process"])
            .env(DIRECTORY, directory)
            .env(DELAY_MS, delay_ms.to_string())
            .env(RESUMING, if resuming { "yes" } else { "no" })
            .stdin(Stdio::from(mount.device.try_clone().unwrap()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let killed = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = killed {
            eprintln!("killing a server: {error}");
        }
    }
}

/// The files of the server processes, and a mount without a server.
fn prepare() -> (tempfile::TempDir, Mount) {
    let mut layer = Layer::default();
    layer.directory("", Meta::mode(0o755));
    for number in 0..FILES {
        layer.file(
            &format!("file-{number}"),
            Meta::mode(0o644),
            &pattern(number, FILE),
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        File::create(directory.path().join(name))
            .unwrap()
            .write_all(bytes)
            .unwrap();
    };
    let mount = Mount::new(&MountOptions::default());
    write("init", &mount.init);
    write("stream", &layer.stream);
    write("index", &merged(&[layer]));
    (directory, mount)
}

fn can_resend(mount: &Mount) -> bool {
    let can = InitRequest::parse(&mount.init).unwrap().can_resend();
    if !can {
        eprintln!("this kernel cannot resend FUSE requests: nothing to test");
    }
    can
}

#[test]
fn a_read_in_flight_is_answered_by_the_next_server() {
    let (directory, mount) = prepare();
    if !can_resend(&mount) {
        return;
    }
    let first = Server::start(&mount, directory.path(), 60_000, false);
    settle(&index_in(directory.path()), mount.path()).unwrap();
    let path = mount.join("file-1");
    let buffered = thread::spawn(move || fs::read(path));
    let path = mount.join("file-2");
    let direct = thread::spawn(move || {
        let file = File::options()
            .read(true)
            .custom_flags(OFlag::O_DIRECT.bits())
            .open(path)?;
        let mut bytes = vec![0; FILE];
        file.read_exact_at(&mut bytes, 0).map(|()| bytes)
    });
    // Both have asked; this server will never answer.
    thread::sleep(Duration::from_millis(300));
    assert!(!buffered.is_finished() && !direct.is_finished());
    drop(first);
    let _second = Server::start(&mount, directory.path(), 1, true);
    until("the buffered read", || buffered.is_finished());
    assert!(buffered.join().unwrap().unwrap() == pattern(1, FILE));
    until("the direct read", || direct.is_finished());
    assert!(direct.join().unwrap().unwrap() == pattern(2, FILE));
}

/// Reads the whole file again and again, past the page cache.
fn verify_until(path: &Path, number: u64, stop: &AtomicBool, rounds: &AtomicU64) {
    let expected = pattern(number, FILE);
    let mut bytes = vec![0; 256 * 1024];
    while !stop.load(Ordering::SeqCst) {
        let file = File::options()
            .read(true)
            .custom_flags(OFlag::O_DIRECT.bits())
            .open(path)
            .unwrap();
        for (part, expected) in expected.chunks(bytes.len()).enumerate() {
            let offset = (part * bytes.len()) as u64;
            file.read_exact_at(&mut bytes, offset)
                .unwrap_or_else(|error| {
                    panic!("file {number} at {offset}: {error}");
                });
            assert!(bytes == expected, "file {number} at {offset}: wrong bytes");
            rounds.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn twenty_kills_lose_nothing() {
    const KILLS: u64 = 20;
    let (directory, mount) = prepare();
    if !can_resend(&mount) {
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let mut server = Server::start(&mount, directory.path(), 5, false);
    settle(&index_in(directory.path()), mount.path()).unwrap();
    let readers: Vec<_> = (0..FILES)
        .map(|number| {
            let path = mount.join(&format!("file-{number}"));
            let (stop, reads) = (Arc::clone(&stop), Arc::clone(&reads));
            thread::spawn(move || verify_until(&path, number, &stop, &reads))
        })
        .collect();
    for kill in 0..KILLS {
        // Some die at work, some before they have adopted anything.
        if kill % 4 == 3 {
            thread::sleep(Duration::from_millis(kill));
        } else {
            let before = reads.load(Ordering::SeqCst);
            until("reads after a kill", || {
                readers.iter().any(|reader| reader.is_finished())
                    || reads.load(Ordering::SeqCst) > before + 3 * kill
            });
        }
        assert!(
            readers.iter().all(|reader| !reader.is_finished()),
            "a reader failed"
        );
        drop(server);
        server = Server::start(&mount, directory.path(), 5, true);
    }
    let before = reads.load(Ordering::SeqCst);
    until("reads after the last kill", || {
        reads.load(Ordering::SeqCst) > before + 50
    });
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        until("a reader", || reader.is_finished());
        reader.join().unwrap();
    }
}

#[test]
fn what_the_kernel_has_needs_no_server() {
    let (directory, mount) = prepare();
    let server = Server::start(&mount, directory.path(), 0, false);
    assert!(fs::read(mount.join("file-0")).unwrap() == pattern(0, FILE));
    assert_eq!(fs::read_dir(mount.path()).unwrap().count() as u64, FILES);
    drop(server);
    assert!(fs::read(mount.join("file-0")).unwrap() == pattern(0, FILE));
    assert_eq!(fs::read_dir(mount.path()).unwrap().count() as u64, FILES);
    assert_eq!(
        fs::metadata(mount.join("file-3")).unwrap().len(),
        FILE as u64
    );
}

#[test]
fn one_process_after_the_other_serves_the_same_mount() {
    // Also in the same process: a session that ends leaves the mount alone.
    let (directory, mount) = prepare();
    if !can_resend(&mount) {
        return;
    }
    for round in 0..3 {
        let server = Server::start(&mount, directory.path(), 0, round > 0);
        let path = mount.join(&format!("file-{round}"));
        let reader = thread::spawn(move || fs::read(path));
        until("a read", || reader.is_finished());
        assert!(reader.join().unwrap().unwrap() == pattern(round, FILE));
        drop(server);
        assert!(fs::metadata(mount.join(&format!("file-{round}"))).is_ok());
    }
}
