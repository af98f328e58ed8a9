//! Taking a container away.

use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::container::hooks;
use crate::container::signal::{handle, kill_all};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::state::{Directory, State, Status};

/// How long a killed first process may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Deletes a container; with `force` one that runs too, and one that is not there silently.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongState`], [`Error::Os`].
pub fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    let directory = match Directory::open(root, id) {
        Err(error) if force && error.is_not_found() => return Ok(()),
        other => other?,
    };
    let state = match directory.state() {
        Ok(state) => state,
        // A `create` that was killed before it had a state to save.
        Err(_) if force => return directory.remove(),
        Err(error) => return Err(error),
    };
    let status = directory.status(&state);
    if !force && !status.can_delete() {
        return Err(Error::WrongState {
            verb: "delete",
            status: status.as_str(),
        });
    }
    destroy(&directory, &state)
}

/// Kills what is left and removes what is on disk.
///
/// # Errors
/// [`Error::Os`].
pub fn destroy(directory: &Directory, state: &State) -> Result<()> {
    fault::point();
    if let Ok(process) = handle(state) {
        use std::os::fd::AsFd;
        let _ = sys::signal::send(process.as_fd(), nix::libc::SIGKILL);
        fault::point();
        if state.cgroup.is_frozen() {
            state.cgroup.thaw()?;
        }
        let limit = Timespec::try_from(KILL_LIMIT).ok();
        poll(&mut [PollFd::new(&process, PollFlags::IN)], limit.as_ref())
            .doing(|| "wait for the first process to end")?;
    }
    fault::point();
    if !state.shares_cgroup {
        kill_all(state, nix::libc::SIGKILL)?;
    }
    let hooks = directory.spec_hooks();
    fault::point();
    state.cgroup.remove();
    fault::point();
    directory.remove()?;
    fault::point();
    if let Ok(hooks) = hooks {
        // The container is gone whatever they say.
        let _ = hooks::run(&hooks.poststop, state, Status::Stopped);
    }
    Ok(())
}
