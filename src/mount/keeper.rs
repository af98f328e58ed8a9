//! The keeper process: holds `/dev/fuse` descriptors, reads no request.
//!
//! One thread, one poll loop. It ends when it holds no mount and no service is connected: at
//! once after the last one has taken its leave, else when none has come for a while.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fuse::device::{self, MountOptions};
use rustix::event::{PollFd, PollFlags};

use crate::cgroup::OwnCgroups;
use crate::error::{MountError, describe};
use crate::message::{self, FromKeeper, KeeperPaths, ToKeeper};
use crate::record::{MountId, MountRecord};
use crate::socket::{self, SocketDirectory};

/// How long a keeper without mounts waits for its first service, or for the next.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
/// First pause before a died service is started again; doubles with every early death.
const BACK_OFF_FIRST: Duration = Duration::from_millis(20);
/// Longest pause between two starts: a reader waits at most this long beyond the start itself.
const BACK_OFF_LIMIT: Duration = Duration::from_secs(5);
/// Longest time without a look at what has no event.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a keeper that is ending is waited for.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(10);
/// A service that lived this long died of something new: the pause starts from the beginning.
const BACK_OFF_RESET: Duration = Duration::from_secs(10);

struct Held {
    record: MountRecord,
    init: Vec<u8>,
    /// Number of the FUSE connection, kept from the start: a user may unmount its directory.
    connection: u32,
    device: OwnedFd,
}

/// Mounts that nobody serves.
#[derive(Default)]
struct Orphans {
    /// How long they may stay so; for ever where there is none.
    limit: Option<Duration>,
    /// Since when they have been so.
    since: Option<Instant>,
}

impl Orphans {
    /// When they are to be aborted.
    fn deadline(&self) -> Option<Instant> {
        self.since?.checked_add(self.limit?)
    }
}

/// The process that serves, seen from the keeper.
struct Server {
    pidfd: OwnedFd,
    command: Vec<String>,
    since: Instant,
}

/// A service that died and is to be started again.
struct Restart {
    command: Vec<String>,
    at: Instant,
}

struct Keeper {
    mounts: BTreeMap<MountId, Held>,
    connections: Vec<OwnedFd>,
    server: Option<Server>,
    restart: Option<Restart>,
    child: Option<Child>,
    back_off: Duration,
    idle_since: Instant,
    orphans: Orphans,
    cgroups: OwnCgroups,
    /// The last service has taken its leave.
    left: bool,
}

/// Runs the keeper of the root whose sockets lie in `run`; returns when nothing is left to hold,
/// or at once where another keeper of this root is alive.
pub fn run(run: &Path) -> Result<(), MountError> {
    let path_error = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| MountError::Path {
            action,
            path,
            source,
        }
    };
    let lock_path = run.join(KeeperPaths::LOCK);
    let lock = File::create(&lock_path).map_err(path_error("creating", &lock_path))?;
    let directory = SocketDirectory::open(run).map_err(path_error("opening", run))?;
    if !take(&lock, &directory).map_err(path_error("locking", &lock_path))? {
        return Ok(());
    }
    let status = lock
        .metadata()
        .map_err(path_error("looking at", &lock_path))?;
    let cgroups = OwnCgroups::enter(&format!("{:x}-{:x}", status.dev(), status.ino()));
    let listener = socket::listen(&directory, KeeperPaths::SOCKET)
        .map_err(path_error("listening below", run))?;
    let mut keeper = Keeper {
        mounts: BTreeMap::new(),
        connections: Vec::new(),
        server: None,
        restart: None,
        child: None,
        back_off: BACK_OFF_FIRST,
        idle_since: Instant::now(),
        orphans: Orphans::default(),
        cgroups,
        left: false,
    };
    while !keeper.is_finished() {
        keeper.turn(listener.as_fd()).map_err(MountError::Keeper)?;
    }
    // Unlinked while the lock is held, so that it can only be this keeper's own.
    let _ = std::fs::remove_file(directory.path(KeeperPaths::SOCKET));
    Ok(())
}

/// Takes the lock of a root's only keeper; false where another one is alive. One that is ending
/// has let go of its socket already, and is waited for.
fn take(lock: &File, directory: &SocketDirectory) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(source)) => return Err(source),
            Err(TryLockError::WouldBlock) => {}
        }
        let answers = socket::connect(directory, KeeperPaths::SOCKET).is_ok();
        if answers || started.elapsed() >= PREDECESSOR_LIMIT {
            return Ok(false);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "another process's lock has no event"
        )]
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Keeper {
    fn is_finished(&self) -> bool {
        let expects_nobody = self.left || self.idle_since.elapsed() >= IDLE_LIMIT;
        self.mounts.is_empty() && self.connections.is_empty() && expects_nobody
    }

    /// Waits for one round of events and handles them.
    fn turn(&mut self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let ready = self.wait(listener)?;
        if ready.listener {
            self.connections.push(socket::accept(listener)?);
        }
        for id in ready.gone_mounts {
            self.mounts.remove(&id);
        }
        // From the back, so that a removal does not move what is still to be visited.
        for position in ready.connections.into_iter().rev() {
            if !self.serve_connection(position) {
                self.connections.remove(position);
            }
        }
        if ready.server_died {
            self.server_died();
        }
        self.start_due_service();
        self.look_after_orphans();
        if !self.connections.is_empty() || !self.mounts.is_empty() {
            self.idle_since = Instant::now();
        }
        Ok(())
    }

    fn wait(&self, listener: BorrowedFd<'_>) -> io::Result<Ready> {
        let mut polled = vec![PollFd::from_borrowed_fd(listener, PollFlags::IN)];
        polled.extend(
            self.connections
                .iter()
                .map(|c| PollFd::new(c, PollFlags::IN)),
        );
        // No event is asked of a device: an unmounted one reports an error all the same.
        polled.extend(
            self.mounts
                .values()
                .map(|m| PollFd::new(&m.device, PollFlags::empty())),
        );
        if let Some(server) = &self.server {
            polled.push(PollFd::new(&server.pidfd, PollFlags::IN));
        }
        let due = [self.restart.as_ref().map(|r| r.at), self.orphans.deadline()];
        let limit = due.into_iter().flatten().min().map_or(LOOK_INTERVAL, |at| {
            at.saturating_duration_since(Instant::now())
                .min(LOOK_INTERVAL)
        });
        let timeout = rustix::event::Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            other => other?,
        };
        let mut happened = polled.iter().map(|p| !p.revents().is_empty());
        let mut next = || happened.next().unwrap_or(false);
        let listener = next();
        let connections = (0..self.connections.len()).filter(|_| next()).collect();
        let gone_mounts = self.mounts.keys().filter(|_| next()).cloned().collect();
        let server_died = next();
        Ok(Ready {
            listener,
            connections,
            gone_mounts,
            server_died,
        })
    }

    /// Handles one message; false when the connection is finished.
    fn serve_connection(&mut self, position: usize) -> bool {
        // A duplicate, so that the handler may change the keeper while it answers.
        let Ok(socket) = socket::duplicate(&self.connections[position]) else {
            return false;
        };
        let Ok((request, fd)) = message::receive::<ToKeeper>(socket.as_fd()) else {
            return false;
        };
        self.handle(request, fd, socket.as_fd()).is_ok()
    }

    fn handle(
        &mut self,
        request: ToKeeper,
        fd: Option<OwnedFd>,
        socket: BorrowedFd<'_>,
    ) -> Result<(), MountError> {
        match request {
            ToKeeper::Serve {
                command,
                orphan_timeout,
            } => {
                self.orphans.limit = orphan_timeout;
                self.serve(command, socket)
            }
            ToKeeper::Mount { record } => self.mount(record, socket),
            ToKeeper::Adopt {
                record,
                init,
                connection,
            } => {
                let Some(device) = fd else {
                    return fail(socket, "an adopted mount needs its descriptor");
                };
                let held = Held {
                    record,
                    init,
                    connection,
                    device,
                };
                self.mounts.insert(held.record.id.clone(), held);
                done(socket)
            }
            ToKeeper::List => {
                for held in self.mounts.values() {
                    send_held(socket, held)?;
                }
                done(socket)
            }
            ToKeeper::Forget { id } => {
                self.mounts.remove(&id);
                done(socket)
            }
            ToKeeper::Abort { id } => match self.mounts.get(&id) {
                None => fail(socket, "no such mount"),
                Some(held) => match device::abort(held.connection) {
                    Ok(()) => done(socket),
                    Err(error) => fail(socket, &error.to_string()),
                },
            },
            ToKeeper::Leave => {
                self.server = None;
                self.restart = None;
                self.left = true;
                done(socket)
            }
        }
    }

    fn serve(&mut self, command: Vec<String>, socket: BorrowedFd<'_>) -> Result<(), MountError> {
        let pidfd = socket::peer(socket).and_then(|pid| {
            Ok(rustix::process::pidfd_open(
                pid,
                rustix::process::PidfdFlags::empty(),
            )?)
        });
        match pidfd {
            Ok(pidfd) => {
                self.server = Some(Server {
                    pidfd,
                    command,
                    since: Instant::now(),
                });
                self.restart = None;
                self.left = false;
                done(socket)
            }
            Err(error) => fail(socket, &format!("cannot watch the service: {error}")),
        }
    }

    fn mount(&mut self, record: MountRecord, socket: BorrowedFd<'_>) -> Result<(), MountError> {
        let options = MountOptions {
            source: record.label.clone(),
            nosuid: !record.suid,
            nodev: !record.dev,
        };
        let mounted = device::open_and_mount(&record.directory, &options)
            .map_err(|error| describe(&error))
            .and_then(|(device, init)| {
                let connection =
                    device::connection_id(&record.directory).map_err(|error| describe(&error))?;
                Ok(Held {
                    record,
                    init,
                    connection,
                    device,
                })
            });
        match mounted {
            Ok(held) => {
                send_held(socket, &held)?;
                self.mounts.insert(held.record.id.clone(), held);
                Ok(())
            }
            Err(message) => fail(socket, &message),
        }
    }

    fn server_died(&mut self) {
        let Some(server) = self.server.take() else {
            return;
        };
        if let Some(mut child) = self.child.take() {
            // Dead already where it is ours, so this does not wait.
            let _ = child.try_wait();
        }
        if self.mounts.is_empty() {
            return;
        }
        if server.since.elapsed() >= BACK_OFF_RESET {
            self.back_off = BACK_OFF_FIRST;
        }
        self.schedule_restart(server.command);
    }

    /// Aborts the mounts that nobody has served for too long: what waits on them gets an error.
    fn look_after_orphans(&mut self) {
        if self.server.is_some() || self.mounts.is_empty() {
            self.orphans.since = None;
            // Without mounts nobody needs another service.
            self.restart = self.restart.take().filter(|_| !self.mounts.is_empty());
            return;
        }
        self.orphans.since.get_or_insert_with(Instant::now);
        if self.orphans.deadline().is_none_or(|at| at > Instant::now()) {
            return;
        }
        // Each goes when its descriptor reports the end. A second abort is harmless.
        for held in self.mounts.values() {
            let directory = held.record.directory.display();
            eprintln!("brisk keeper: nobody serves {directory}: its FUSE connection is aborted");
            if let Err(error) = device::abort(held.connection)
                && !error.is_gone()
            {
                eprintln!("brisk keeper: {directory}: {}", describe(&error));
            }
        }
        self.orphans.since = Some(Instant::now());
    }

    fn schedule_restart(&mut self, command: Vec<String>) {
        self.restart = Some(Restart {
            command,
            at: Instant::now() + self.back_off,
        });
        self.back_off = (self.back_off * 2).min(BACK_OFF_LIMIT);
    }

    fn start_due_service(&mut self) {
        // A service that died before it said `Serve` is seen as a child that has ended.
        if let Some(child) = &mut self.child
            && let Ok(Some(_)) = child.try_wait()
        {
            self.child = None;
        }
        if self.restart.as_ref().is_none_or(|r| r.at > Instant::now()) {
            return;
        }
        let Some(restart) = self.restart.take() else {
            return;
        };
        if self.child.is_some() {
            // Still starting: look again after the pause rather than start a second one.
            return self.schedule_restart(restart.command);
        }
        let Some((program, arguments)) = restart.command.split_first() else {
            return;
        };
        let started = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .spawn();
        if let Err(error) = &started {
            eprintln!("brisk keeper: starting {program}: {error}");
        }
        self.child = started.ok();
        if let Some(child) = &self.child {
            self.cgroups.put_back(child.id());
        }
        // Until it says `Serve` it may still fail: the next look is already planned.
        self.schedule_restart(restart.command);
    }
}

/// What one poll found.
#[derive(Default)]
struct Ready {
    listener: bool,
    connections: Vec<usize>,
    gone_mounts: Vec<MountId>,
    server_died: bool,
}

fn send_held(socket: BorrowedFd<'_>, held: &Held) -> Result<(), MountError> {
    let answer = FromKeeper::Held {
        record: held.record.clone(),
        init: held.init.clone(),
        connection: held.connection,
    };
    message::send(socket, &answer, Some(held.device.as_fd()))
}

fn done(socket: BorrowedFd<'_>) -> Result<(), MountError> {
    message::send(socket, &FromKeeper::Done, None)
}

fn fail(socket: BorrowedFd<'_>, message: &str) -> Result<(), MountError> {
    message::send(
        socket,
        &FromKeeper::Failed {
            message: message.to_owned(),
        },
        None,
    )
}
