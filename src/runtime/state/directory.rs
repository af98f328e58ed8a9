//! A container's directory under the root: `state.json`, a copy of `config.json`, `exec.fifo`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::fault;
use crate::spec::{self, Hooks, Spec};
use crate::state::{State, Status, is_alive};

/// Bytes of the longest name: names of cgroups and of directories end at 255.
const ID_LIMIT: usize = 255;

/// The directory, locked against other commands on the same container.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Holds the flock until dropped; none for readers.
    lock: RefCell<Option<File>>,
}

/// A name is letters, digits and `_+-.`, so that it is one component of a path.
fn check_id(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    let good = !id.is_empty() && id.len() <= ID_LIMIT && id.bytes().all(allowed);
    if good && id != "." && id != ".." {
        return Ok(());
    }
    Err(Error::Usage(format!("invalid container id {id:?}")))
}

fn lock(path: &Path) -> std::io::Result<File> {
    let file = File::open(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

impl Directory {
    /// Makes the directory of a new container.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Usage`] for a bad name, [`Error::Os`].
    pub fn create(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(root)
            .doing(|| format!("make {}", root.display()))?;
        let path = root.join(id);
        match std::fs::DirBuilder::new().mode(0o711).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::Exists(id.to_owned()));
            }
            other => other.doing(|| format!("make {}", path.display()))?,
        }
        let lock = lock(&path).doing(|| format!("lock {}", path.display()))?;
        Ok(Self {
            path,
            lock: RefCell::new(Some(lock)),
        })
    }

    /// Opens and locks the directory of a container that is there.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Usage`] for a bad name, [`Error::Os`].
    pub fn open(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        match lock(&path) {
            // Whoever held the lock may have deleted the container meanwhile.
            Ok(lock) if path.exists() => Ok(Self {
                path,
                lock: RefCell::new(Some(lock)),
            }),
            Ok(_) => Err(Error::NotFound(id.to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::NotFound(id.to_owned()))
            }
            Err(error) => Err(error).doing(|| format!("lock {}", path.display())),
        }
    }

    /// Opens the directory to read from it while another command may be at work: hooks ask for
    /// the state of the container that they are run for.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Usage`] for a bad name.
    pub fn read(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        if !path.join("state.json").exists() {
            return Err(Error::NotFound(id.to_owned()));
        }
        Ok(Self {
            path,
            lock: RefCell::new(None),
        })
    }

    /// Closes the lock's descriptor, in the child of a fork: the copy would keep the lock for as
    /// long as the container lives.
    pub fn leave_lock(&self) {
        drop(self.lock.take());
    }

    /// Where states are kept.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Where the first process waits for `start`.
    #[must_use]
    pub fn fifo(&self) -> PathBuf {
        self.path.join("exec.fifo")
    }

    /// Where it leaves the reason when its program cannot be executed.
    #[must_use]
    pub fn failure(&self) -> PathBuf {
        self.path.join("exec.failure")
    }

    /// Saves `state`: whole or not at all.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn save(&self, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state).map_err(|error| Error::Document {
            path: self.path.join("state.json"),
            reason: error.to_string(),
        })?;
        self.replace("state.json", &text)
    }

    /// Keeps the specification that the container was made from.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn save_spec(&self, config: &[u8]) -> Result<()> {
        self.replace("config.json", config)
    }

    /// The root is a tmpfs or is emptied at boot, so there is nothing to sync: a state that
    /// survives a power cut would describe processes that do not.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = self.path.join(format!(".{name}"));
        let write = || {
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&temporary)?.write_all(bytes)?;
            fault::point();
            std::fs::rename(&temporary, self.path.join(name))
        };
        write().doing(|| format!("write {}", self.path.join(name).display()))
    }

    /// Reads the state.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::Document`].
    pub fn state(&self) -> Result<State> {
        let path = self.path.join("state.json");
        spec::parse(&path, &spec::read_limited(&path)?)
    }

    /// Reads the specification that the container was made from.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::Document`].
    pub fn spec(&self) -> Result<Spec> {
        Ok(spec::load(&self.path)?.1)
    }

    /// The hooks alone, which is what most verbs want of the specification. A text without the
    /// word is not parsed at all.
    ///
    /// # Errors
    /// As [`Directory::spec`].
    pub fn spec_hooks(&self) -> Result<Hooks> {
        let path = self.path.join("config.json");
        let bytes = spec::read_limited(&path)?;
        if !bytes.windows(7).any(|word| word == b"\"hooks\"") {
            return Ok(Hooks::default());
        }
        Ok(spec::parse::<Spec>(&path, &bytes)?.hooks)
    }

    /// Where the container is in its life now.
    #[must_use]
    pub fn status(&self, state: &State) -> Status {
        if state.pid == 0 {
            return Status::Creating;
        }
        if !is_alive(state.pid, state.start_time) {
            return Status::Stopped;
        }
        if state.cgroup.is_frozen() {
            return Status::Paused;
        }
        if self.fifo().exists() {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.doing(|| format!("remove {}", self.path.display())),
        }
    }
}

/// Names of all containers under `root`, sorted.
///
/// # Errors
/// [`Error::Os`]. A root that is not there has none.
pub fn list(root: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing(|| format!("read {}", root.display()))?,
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("state.json").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component() {
        for good in ["a", "A_b+c-d.1", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_taken_name_is_refused_and_a_removed_one_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::create(root.path(), "one").unwrap();
        assert!(matches!(
            Directory::create(root.path(), "one"),
            Err(Error::Exists(_))
        ));
        let state = State {
            id: "one".into(),
            pid: 1,
            ..State::default()
        };
        directory.save(&state).unwrap();
        assert_eq!(directory.state().unwrap().pid, 1);
        assert_eq!(list(root.path()).unwrap(), ["one"]);
        directory.remove().unwrap();
        drop(directory);
        assert!(
            Directory::open(root.path(), "one")
                .unwrap_err()
                .is_not_found()
        );
    }
}
