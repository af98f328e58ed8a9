//! The service's side of the keeper: starts it, asks it, replaces it when it has died.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::MountError;
use crate::message::{self, FromKeeper, KeeperPaths, ToKeeper};
use crate::record::{MountId, MountRecord};
use crate::socket::{self, SocketDirectory};

/// A keeper that does not listen within this time did not start.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks whether the keeper listens.
const START_PAUSE: Duration = Duration::from_millis(2);

/// How the two processes of a root are started.
#[derive(Clone, Debug)]
pub struct Commands {
    /// Program and arguments of the keeper.
    pub keeper: Vec<String>,
    /// Program and arguments of the service, for the keeper to start it again.
    pub service: Vec<String>,
}

/// A mount as the keeper holds it, with a descriptor of the service's own.
#[derive(Debug)]
pub struct HeldMount {
    /// What is mounted.
    pub record: MountRecord,
    /// The kernel's FUSE_INIT message.
    pub init: Vec<u8>,
    /// Number of the FUSE connection.
    pub connection: u32,
    /// The FUSE device of this mount.
    pub device: OwnedFd,
}

/// The connection to the keeper of a root.
pub struct KeeperLink {
    run: PathBuf,
    commands: Commands,
    orphan_timeout: Option<Duration>,
    socket: OwnedFd,
}

impl KeeperLink {
    /// Connects to the keeper, starting it when there is none, and says that this process
    /// serves from now on. Without a server for `orphan_timeout`, the keeper is to abort its
    /// mounts.
    pub fn open(
        run: &Path,
        commands: Commands,
        orphan_timeout: Option<Duration>,
    ) -> Result<Self, MountError> {
        let started = Instant::now();
        loop {
            let socket = connect_or_start(run, &commands)?;
            let mut link = KeeperLink {
                run: run.to_path_buf(),
                commands: commands.clone(),
                orphan_timeout,
                socket,
            };
            match link.serve() {
                Ok(()) => return Ok(link),
                // It was ending when it was found; its successor does not.
                Err(error) if error.is_keeper_gone() && started.elapsed() < START_LIMIT => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn serve(&mut self) -> Result<(), MountError> {
        let command = self.commands.service.clone();
        self.ask(&ToKeeper::Serve {
            command,
            orphan_timeout: self.orphan_timeout,
        })
    }

    /// Every mount that the keeper holds.
    pub fn list(&mut self) -> Result<Vec<HeldMount>, MountError> {
        message::send(self.socket.as_fd(), &ToKeeper::List, None)?;
        let mut mounts = Vec::new();
        loop {
            match message::receive(self.socket.as_fd())? {
                (
                    FromKeeper::Held {
                        record,
                        init,
                        connection,
                    },
                    Some(device),
                ) => {
                    mounts.push(HeldMount {
                        record,
                        init,
                        connection,
                        device,
                    });
                }
                (FromKeeper::Done, _) => return Ok(mounts),
                (other, _) => return Err(unexpected(&other)),
            }
        }
    }

    /// Mounts a FUSE file system at `record.directory`.
    pub fn mount(&mut self, record: &MountRecord) -> Result<HeldMount, MountError> {
        let request = ToKeeper::Mount {
            record: record.clone(),
        };
        message::send(self.socket.as_fd(), &request, None)?;
        match message::receive(self.socket.as_fd())? {
            (
                FromKeeper::Held {
                    record,
                    init,
                    connection,
                },
                Some(device),
            ) => Ok(HeldMount {
                record,
                init,
                connection,
                device,
            }),
            (FromKeeper::Failed { message }, _) => Err(MountError::Refused {
                directory: record.directory.clone(),
                message,
            }),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Lets the keeper close its descriptor of a mount that is no more.
    pub fn forget(&mut self, id: &MountId) -> Result<(), MountError> {
        self.ask(&ToKeeper::Forget { id: id.clone() })
    }

    /// Aborts the FUSE connection of a mount.
    pub fn abort(&mut self, id: &MountId) -> Result<(), MountError> {
        self.ask(&ToKeeper::Abort { id: id.clone() })
    }

    /// Says that this service stops on purpose.
    pub fn leave(&mut self) -> Result<(), MountError> {
        self.ask(&ToKeeper::Leave)
    }

    /// True when the keeper has closed the connection, that is, has died.
    pub fn is_gone(&self) -> bool {
        let mut polled = [rustix::event::PollFd::new(
            &self.socket,
            rustix::event::PollFlags::empty(),
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(count) if count > 0)
    }

    /// Starts a new keeper in the place of a dead one and hands it every mount.
    pub fn replace<'a>(
        &mut self,
        mounts: impl Iterator<Item = &'a HeldMount>,
    ) -> Result<(), MountError> {
        self.socket = connect_or_start(&self.run, &self.commands)?;
        for held in mounts {
            let request = ToKeeper::Adopt {
                record: held.record.clone(),
                init: held.init.clone(),
                connection: held.connection,
            };
            message::send(self.socket.as_fd(), &request, Some(held.device.as_fd()))?;
            self.answer()?;
        }
        self.serve()
    }

    fn ask(&mut self, request: &ToKeeper) -> Result<(), MountError> {
        message::send(self.socket.as_fd(), request, None)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<(), MountError> {
        match message::receive(self.socket.as_fd())?.0 {
            FromKeeper::Done => Ok(()),
            FromKeeper::Failed { message } => Err(MountError::Protocol(message)),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &FromKeeper) -> MountError {
    MountError::Protocol(match answer {
        FromKeeper::Failed { message } => message.clone(),
        other => format!("unexpected answer {other:?}"),
    })
}

fn connect_or_start(run: &Path, commands: &Commands) -> Result<OwnedFd, MountError> {
    let directory = SocketDirectory::open(run).map_err(|source| MountError::Path {
        action: "opening",
        path: run.to_path_buf(),
        source,
    })?;
    let started = Instant::now();
    let mut spawned = false;
    loop {
        match socket::connect(&directory, KeeperPaths::SOCKET) {
            Ok(socket) => return Ok(socket),
            Err(error) if started.elapsed() > START_LIMIT => {
                return Err(MountError::Keeper(error));
            }
            Err(_) if !spawned => {
                spawn(run, &commands.keeper)?;
                spawned = true;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "another process's listen() has no event"
            )]
            Err(_) => std::thread::sleep(START_PAUSE),
        }
    }
}

/// Starts a keeper that outlives this process: its own session, no descriptor of ours but the
/// log, the root directory as working directory.
fn spawn(run: &Path, command: &[String]) -> Result<(), MountError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(MountError::Protocol("no keeper command".to_owned()));
    };
    let log_path = run.join(KeeperPaths::LOG);
    let path_error = |action, path: &Path, source: io::Error| MountError::Path {
        action,
        path: path.to_path_buf(),
        source,
    };
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(|e| path_error("opening", &log_path, e))?;
    let log_again = log
        .try_clone()
        .map_err(|e| path_error("opening", &log_path, e))?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_again)
        .process_group(0)
        .spawn()
        .map_err(|e| path_error("starting", Path::new(program), e))?;
    // The program detaches itself by a second fork and this first process ends at once.
    child
        .wait()
        .map_err(|e| path_error("starting", Path::new(program), e))?;
    Ok(())
}
