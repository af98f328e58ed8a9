//! Real mounts for tests: they are unmounted and their connections aborted whatever happens.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "every test binary uses another part")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for other processes and the kernel"
)]

pub mod image;
pub mod memory;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fuse::device::{MountOptions, abort, connection_id, control_number, open_and_mount};
use fuse::requests::RequestCounts;
use fuse::{Content, MountedTree, Session, SessionError, SessionOptions, WaitingReads};
use index_format::Index;
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use self::image::{Layer, merged};
use self::memory::Memory;

/// Longer than anything here takes on a busy machine; ends a test that hangs.
pub const LONG: Duration = Duration::from_secs(30);

/// After this, a mount is aborted so that what waits on it fails.
pub const WATCHDOG: Duration = Duration::from_secs(45);

/// A mount whose device this process keeps.
pub struct Mount {
    pub device: OwnedFd,
    pub init: Vec<u8>,
    connection: u32,
    dir: TempDir,
    /// Hung up when the mount goes, which stops its watchdog.
    _alive: Sender<()>,
}

impl Mount {
    pub fn new(options: &MountOptions) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("brisk-fuse-")
            .tempdir()
            .unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let (device, init) = open_and_mount(dir.path(), options).unwrap();
        let connection = connection_id(dir.path()).unwrap();
        let (alive, gone) = channel();
        // A system call on a mount that nobody serves has no time limit of its own.
        thread::spawn(move || {
            if gone.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
                eprintln!("aborting a mount that hangs");
                abort(connection).unwrap();
            }
        });
        Self {
            device,
            init,
            connection,
            dir,
            _alive: alive,
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn join(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// The number in a control file of the connection.
    pub fn control(&self, name: &'static str) -> u64 {
        control_number(self.connection, name).unwrap()
    }

    pub fn abort(&self) {
        abort(self.connection).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Both even if one fails, and neither panics while a failed test unwinds.
        if let Err(error) = umount2(self.dir.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmount: {error}");
        }
        if let Err(error) = abort(self.connection)
            && !error.is_gone()
        {
            eprintln!("abort: {error}");
        }
    }
}

/// What `adopt` needs for content that shares a registry.
pub fn options(threads: usize, resuming: bool, waiting: &Arc<WaitingReads>) -> SessionOptions {
    SessionOptions {
        threads,
        resuming,
        waiting: Arc::clone(waiting),
        requests: Arc::default(),
        replace_descriptor: sys::descriptor::replace,
    }
}

/// A mount served by threads of this process.
pub struct Served {
    pub mount: Mount,
    pub content: Arc<Memory>,
    pub index: Index,
    pub waiting: Arc<WaitingReads>,
    pub requests: Arc<RequestCounts>,
    server: Option<JoinHandle<Result<(), SessionError>>>,
}

impl Served {
    pub fn new(layers: Vec<Layer>) -> Self {
        Self::with(layers, 2, &MountOptions::default())
    }

    pub fn with(layers: Vec<Layer>, threads: usize, mount: &MountOptions) -> Self {
        let index = Index::open(merged(&layers)).unwrap();
        let content = Arc::new(Memory::new(layers.into_iter().map(|l| l.stream).collect()));
        let waiting = Arc::new(WaitingReads::default());
        let mount = Mount::new(mount);
        let tree = MountedTree::new(index.clone(), Arc::clone(&content)).unwrap();
        let (requests, server) = serve(&mount, tree, &options(threads, false, &waiting));
        Self {
            mount,
            content,
            index,
            waiting,
            requests,
            server: Some(server),
        }
    }

    pub fn join(&self, path: &str) -> PathBuf {
        self.mount.join(path)
    }

    /// Holds back every read that needs bytes of `path`, except those before `from`.
    pub fn hold(&self, path: &str, from: u64) {
        let inode = self.index.resolve(path.as_bytes()).unwrap().unwrap();
        let layer = self.index.inode(inode).unwrap().layer;
        for extent in self.index.extents(inode).unwrap() {
            let start = extent.stream_offset.0;
            self.content
                .hold(layer, start + from..start + extent.length);
        }
    }

    /// Waits until `count` reads wait.
    pub fn until_waiting(&self, count: usize) {
        until("reads to wait", || self.waiting.waiting() >= count);
    }

    /// The thread of the server, to see what `run` returns.
    pub fn take_server(&mut self) -> JoinHandle<Result<(), SessionError>> {
        self.server.take().unwrap()
    }

    /// Ends the server by an abort and gives what `run` returned.
    pub fn end(&mut self) -> Result<(), SessionError> {
        self.mount.abort();
        let server = self.take_server();
        until("the server to end", || server.is_finished());
        server.join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Let nobody wait on this process while it goes.
        self.content.release();
    }
}

/// Serves `mount` from a thread.
pub fn serve<C: Content>(
    mount: &Mount,
    tree: MountedTree<C>,
    options: &SessionOptions,
) -> (Arc<RequestCounts>, JoinHandle<Result<(), SessionError>>) {
    let device = mount.device.try_clone().unwrap();
    let session = Session::adopt(device, &mount.init, tree, options.clone()).unwrap();
    let requests = Arc::clone(&options.requests);
    (requests, thread::spawn(move || session.run()))
}

/// Waits for a condition, with a limit.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
