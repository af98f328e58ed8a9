//! The first process's own way into the directories of version 1. Moving another process (its
//! number into `cgroup.procs`) makes the kernel wait until nobody on the machine is in the midst
//! of a fork or an exit: a grace period of RCU, 5 to 15 ms of nothing. A thread that moves itself
//! (`0` into `tasks`) spares it that, and a process newly forked is one thread.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::cgroup::Cgroup;
use crate::error::{Context, Result};
use crate::fault;

/// The `tasks` files of the hierarchies, open: the kernel asks for the rights of whoever opened
/// them, and the paths may lead nowhere later.
#[derive(Debug, Default)]
pub struct Entrance {
    files: Vec<(PathBuf, OwnedFd)>,
}

impl Cgroup {
    /// Opens the way in; there is none to open before systemd has made the directories.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming the file.
    pub fn entrance(&self) -> Result<Entrance> {
        if self.unit.is_some() {
            return Ok(Entrance::default());
        }
        let open = |path: PathBuf| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open(&path, flags, Mode::empty());
            let file = file.doing(|| format!("open {}", path.display()))?;
            Ok((path, file))
        };
        let paths = self.hierarchies.iter();
        let paths = paths.map(|hierarchy| hierarchy.path.join("tasks"));
        let files = paths.map(open).collect::<Result<_>>()?;
        Ok(Entrance { files })
    }
}

impl Entrance {
    /// Moves this process in, which has to have one thread.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming the file.
    pub fn enter(self) -> Result<()> {
        for (path, file) in self.files {
            fault::point();
            rustix::io::write(&file, b"0").doing(|| format!("write to {}", path.display()))?;
        }
        Ok(())
    }
}
