//! `pause` and `resume`.

use crate::cli::Call;
use crate::error::{Error, Result};
use crate::state::Directory;

pub(crate) fn pause(call: &Call) -> Result<u8> {
    let directory = Directory::open(&call.global.root, call.parsed.id()?)?;
    let state = directory.state()?;
    let status = directory.status(&state);
    if !status.can_pause() {
        return Err(Error::WrongState {
            verb: "pause",
            status: status.as_str(),
        });
    }
    state.cgroup.freeze()?;
    Ok(0)
}

pub(crate) fn resume(call: &Call) -> Result<u8> {
    let directory = Directory::open(&call.global.root, call.parsed.id()?)?;
    let state = directory.state()?;
    let status = directory.status(&state);
    if !status.can_resume() {
        return Err(Error::WrongState {
            verb: "resume",
            status: status.as_str(),
        });
    }
    state.cgroup.thaw()?;
    Ok(0)
}
