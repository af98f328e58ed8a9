//! Containers on disk: `<root>/containers/<id>/` each, and a name each.

mod files;
mod record;

pub use files::replace;
pub use record::{Phase, Record, State, Status, unix_ms};

use self::files::{read_json, write_json};
use super::error::ContainerError;
use super::id::ContainerId;
use super::process::timespec;
use brisk_durable::Durability;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest name of a container: it is a file name and appears in tables.
const MAX_NAME: usize = 128;
/// Times the monitor's lock is tried, for one who only looked at it.
const LOCK_TRIES: u32 = 20;
/// Pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// Times a name left behind by a crash is cleared away before giving up.
const NAME_RETRIES: u32 = 3;

/// All containers of one `--root`.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store below `root`, making its directories where they are missing.
    pub fn open(root: &Path) -> Result<Store, ContainerError> {
        let root = std::path::absolute(root).map_err(ContainerError::file("resolve", root))?;
        let store = Store { root };
        let private = |path: &Path| {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(path);
            made.map_err(ContainerError::file("create", path))
        };
        private(&store.names())?;
        private(&store.runtime_root())?;
        Ok(store)
    }

    /// State directory of the OCI runtime, shared by all containers.
    pub fn runtime_root(&self) -> PathBuf {
        self.root.join("runtime")
    }

    fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    fn names(&self) -> PathBuf {
        self.containers().join("names")
    }

    /// Makes the directory of a new container and takes its name: the one given, else its
    /// short id. Nothing is left where that fails.
    pub fn create(
        &self,
        id: &ContainerId,
        name: Option<&str>,
    ) -> Result<Container, ContainerError> {
        let name = name.unwrap_or(id.short());
        check_name(name)?;
        let container = self.container(id.clone());
        let mut builder = DirBuilder::new();
        let made = builder.mode(0o700).create(&container.directory);
        made.map_err(ContainerError::file("create", &container.directory))?;
        if let Err(error) = self.take_name(name, id) {
            // The error matters; an empty directory that stays is shown by `ps -a`.
            let _ = std::fs::remove_dir(&container.directory);
            return Err(error);
        }
        Ok(container)
    }

    fn take_name(&self, name: &str, id: &ContainerId) -> Result<(), ContainerError> {
        let link = self.names().join(name);
        for _ in 0..NAME_RETRIES {
            match std::os::unix::fs::symlink(id.as_str(), &link) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ContainerError::file("create", &link)(error)),
            }
            if let Some(holder) = self.holder(name)
                && self.container(holder.clone()).directory.exists()
            {
                let holder = holder.short().to_owned();
                return Err(ContainerError::NameInUse {
                    name: name.to_owned(),
                    holder,
                });
            }
            // A name without a container: a crash between the two. (A container's
            // directory is there before its name and goes after it.)
            let _ = std::fs::remove_file(&link);
        }
        Err(ContainerError::NameInUse {
            name: name.to_owned(),
            holder: "unknown".to_owned(),
        })
    }

    fn holder(&self, name: &str) -> Option<ContainerId> {
        let target = std::fs::read_link(self.names().join(name)).ok()?;
        ContainerId::try_from(target.to_str()?.to_owned()).ok()
    }

    fn container(&self, id: ContainerId) -> Container {
        let directory = self.containers().join(id.as_str());
        Container { id, directory }
    }

    /// Every container, oldest first.
    pub fn list(&self) -> Result<Vec<Container>, ContainerError> {
        let directory = self.containers();
        let failed = || ContainerError::file("list", &directory);
        let mut containers = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name().into_string();
            if let Some(id) = name.ok().and_then(|name| ContainerId::try_from(name).ok()) {
                containers.push(self.container(id));
            }
        }
        containers.sort_by_cached_key(|container| {
            container
                .record()
                .map_or(u64::MAX, |record| record.created_unix_ms)
        });
        Ok(containers)
    }

    /// The container with this name, id or beginning of an id.
    pub fn find(&self, text: &str) -> Result<Container, ContainerError> {
        let missing = || ContainerError::NoSuchContainer(text.to_owned());
        if let Ok(id) = ContainerId::try_from(text.to_owned()) {
            let container = self.container(id);
            return if container.directory.exists() {
                Ok(container)
            } else {
                Err(missing())
            };
        }
        if check_name(text).is_ok()
            && let Some(id) = self.holder(text)
        {
            let container = self.container(id);
            if container.directory.exists() {
                return Ok(container);
            }
        }
        if text.is_empty() {
            return Err(missing());
        }
        let mut matches = self
            .list()?
            .into_iter()
            .filter(|container| container.id.as_str().starts_with(text));
        let found = matches.next().ok_or_else(missing)?;
        match matches.next() {
            Some(_) => Err(ContainerError::Ambiguous(text.to_owned())),
            None => Ok(found),
        }
    }

    /// Gives up the container's name and removes its directory. It must be at rest: no
    /// mount, no process.
    pub fn remove(&self, container: &Container) -> Result<(), ContainerError> {
        for entry in std::fs::read_dir(self.names())
            .into_iter()
            .flatten()
            .flatten()
        {
            if std::fs::read_link(entry.path())
                .is_ok_and(|to| to == Path::new(container.id.as_str()))
            {
                let path = entry.path();
                std::fs::remove_file(&path).map_err(ContainerError::file("remove", &path))?;
            }
        }
        match std::fs::remove_dir_all(&container.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(ContainerError::file("remove", &container.directory)),
        }
    }
}

/// Names are file names and must not be taken for options.
fn check_name(name: &str) -> Result<(), ContainerError> {
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first = name
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric());
    if first && name.len() <= MAX_NAME && name.chars().all(usable) {
        return Ok(());
    }
    let reason = format!(
        "a name has 1 to {MAX_NAME} letters, digits, _ . - and starts with a letter or digit"
    );
    Err(ContainerError::option("name", name, reason))
}

/// One container's directory and what lies in it.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// `<root>/containers/<id>`.
    pub directory: PathBuf,
}

impl Container {
    /// Where the writable root is mounted.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// The OCI bundle.
    pub fn bundle(&self) -> PathBuf {
        self.directory.join("bundle")
    }

    /// What the container wrote, as JSON lines; the older half is beside it.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn record_path(&self) -> PathBuf {
        self.directory.join("container.json")
    }

    fn state_path(&self) -> PathBuf {
        self.directory.join("state.json")
    }

    fn lock_path(&self) -> PathBuf {
        self.directory.join("monitor")
    }

    /// What the container is.
    pub fn record(&self) -> Result<Record, ContainerError> {
        read_json(&self.record_path())
    }

    /// Writes what the container is.
    pub fn write_record(&self, record: &Record) -> Result<(), ContainerError> {
        write_json(&self.record_path(), record, Durability::Process)
    }

    /// How far the container has come, as its monitor wrote it last.
    pub fn state(&self) -> Result<State, ContainerError> {
        read_json(&self.state_path())
    }

    /// Writes how far the container has come.
    pub fn write_state(&self, state: &State, durability: Durability) -> Result<(), ContainerError> {
        write_json(&self.state_path(), state, durability)
    }

    /// How the container is now: what its monitor wrote, corrected by what lives.
    pub fn status(&self) -> Result<Status, ContainerError> {
        let monitored = self.is_monitored()?;
        let state = match self.state() {
            Ok(state) => state,
            // Between the making of the directory and the first words.
            Err(ContainerError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(if monitored {
                    Status::Creating
                } else {
                    Status::Exited { code: None }
                });
            }
            Err(error) => return Err(error),
        };
        Ok(match state.phase {
            Phase::Exited => Status::Exited {
                code: state.exit_code,
            },
            Phase::Creating if monitored => Status::Creating,
            Phase::Running if monitored => Status::Running,
            Phase::Running if state.init.is_some_and(|init| init.open().is_some()) => {
                Status::Running
            }
            Phase::Creating | Phase::Running => Status::Exited { code: None },
        })
    }

    /// Time since something was made or removed in the directory; zero where that is
    /// unknown.
    pub fn age(&self) -> Duration {
        std::fs::metadata(&self.directory)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| modified.elapsed().ok())
            .unwrap_or_default()
    }

    /// Takes the monitor's lock; held until the returned file is dropped, so that a death
    /// of any kind releases it.
    pub fn lock(&self) -> Result<MonitorLock, ContainerError> {
        let path = self.lock_path();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(ContainerError::file("open", &path))?;
        // Somebody who only looks whether the monitor lives holds the lock for an instant.
        let mut tries = 0;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(MonitorLock { file, path }),
                Err(Errno::AGAIN) if tries < LOCK_TRIES => tries += 1,
                Err(errno) => return Err(ContainerError::file("lock", &path)(errno.into())),
            }
            let _ = rustix::event::poll(&mut [], Some(&timespec(LOCK_PAUSE)));
        }
    }

    /// Whether the container's monitor lives.
    pub fn is_monitored(&self) -> Result<bool, ContainerError> {
        match self.watch() {
            Ok(watch) => Ok(!watch.has_ended()),
            Err(ContainerError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the monitor's lock for waiting; works on even when the directory goes.
    pub fn watch(&self) -> Result<Watch, ContainerError> {
        let path = self.lock_path();
        let file = File::open(&path).map_err(ContainerError::file("open", &path))?;
        Ok(Watch { file, path })
    }
}

/// Held by the monitor as long as it lives.
#[derive(Debug)]
pub struct MonitorLock {
    file: File,
    path: PathBuf,
}

impl MonitorLock {
    /// Leaves the exit code for those who wait: the file outlives its name in their hands,
    /// so `--rm` takes nothing from them.
    pub fn leave_exit_code(&mut self, code: u8) -> Result<(), ContainerError> {
        let failed = || ContainerError::file("write", &self.path);
        self.file.set_len(0).map_err(failed())?;
        self.file.rewind().map_err(failed())?;
        write!(self.file, "{code}").map_err(failed())
    }
}

/// The monitor's lock seen from outside.
#[derive(Debug)]
pub struct Watch {
    file: File,
    path: PathBuf,
}

impl Watch {
    /// Whether the monitor has ended.
    pub fn has_ended(&self) -> bool {
        let taken = rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockShared).is_ok();
        if taken {
            // Given back at once: a monitor that is just starting wants it.
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
        taken
    }

    /// Waits for the monitor's end, without a limit, and tells the exit code it left.
    pub fn wait(&mut self) -> Result<Option<u8>, ContainerError> {
        loop {
            match rustix::fs::flock(&self.file, FlockOperation::LockShared) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(ContainerError::file("lock", &self.path)(errno.into())),
            }
        }
        let mut text = String::new();
        self.file
            .rewind()
            .map_err(ContainerError::file("read", &self.path))?;
        self.file
            .read_to_string(&mut text)
            .map_err(ContainerError::file("read", &self.path))?;
        Ok(text.trim().parse().ok())
    }
}

#[cfg(test)]
mod tests;
