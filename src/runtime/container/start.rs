//! Letting the program run.

use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::container::hooks;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::state::{Directory, Status};

/// Starts a created container and returns once its program has begun.
///
/// # Errors
/// [`Error::WrongState`], [`Error::Init`] with why the program could not be executed.
pub fn start(root: &Path, id: &str) -> Result<()> {
    let directory = Directory::open(root, id)?;
    let state = directory.state()?;
    let status = directory.status(&state);
    if !status.can_start() {
        return Err(Error::WrongState {
            verb: "start",
            status: status.as_str(),
        });
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = match rustix::fs::open(directory.fifo(), flags, Mode::empty()) {
        Err(Errno::NXIO) => return Err(Error::NotRunning),
        other => other.doing(|| "open exec.fifo")?,
    };
    fault::point();
    rustix::io::write(&fifo, b"0").doing(|| "write to exec.fifo")?;
    fault::point();
    // The reader closes it by executing its program, or by ending.
    loop {
        match poll(&mut [PollFd::new(&fifo, PollFlags::ERR)], None) {
            Err(Errno::INTR) => {}
            other => {
                other.doing(|| "wait for the program")?;
                break;
            }
        }
    }
    let failure = std::fs::read_to_string(directory.failure()).unwrap_or_default();
    for path in [directory.fifo(), directory.failure()] {
        fault::point();
        std::fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
    }
    fault::point();
    if !failure.is_empty() {
        return Err(Error::Init(failure));
    }
    let hooks = directory.spec_hooks()?;
    hooks::run(&hooks.poststart, &state, Status::Running)
}
