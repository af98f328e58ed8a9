//! Freezing and thawing, in either version.

use std::time::{Duration, Instant};

use crate::cgroup::{Cgroup, files, v1};
use crate::error::{Error, Result};

/// How long processes may take to stop: one deep in an uninterruptible wait delays the whole.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);

/// Freezes or thaws and waits until it is so.
///
/// # Errors
/// [`Error::Unsupported`] without a freezer, [`Error::Os`] naming the file or the time limit.
pub fn set(cgroup: &Cgroup, frozen: bool) -> Result<()> {
    let deadline = Instant::now() + FREEZE_LIMIT;
    if let Some(path) = cgroup.hierarchy("freezer") {
        let wanted = if frozen { "FROZEN" } else { "THAWED" };
        loop {
            // Written again each time: a process forked meanwhile keeps the state at FREEZING.
            files::write(path, "freezer.state", wanted)?;
            if v1::freezer_state(path)? == wanted {
                return Ok(());
            }
            give_up_after(deadline)?;
            files::pause_briefly();
        }
    }
    let Some(path) = cgroup
        .unified
        .as_deref()
        .filter(|path| path.join("cgroup.freeze").exists())
    else {
        return Err(Error::unsupported("pause", "no freezer is mounted"));
    };
    files::write(path, "cgroup.freeze", if frozen { "1" } else { "0" })?;
    while is_frozen(cgroup) != frozen {
        give_up_after(deadline)?;
        files::pause_briefly();
    }
    Ok(())
}

fn give_up_after(deadline: Instant) -> Result<()> {
    if Instant::now() < deadline {
        return Ok(());
    }
    let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
    Err(Error::Os {
        action: "wait for the freezer".to_owned(),
        source,
    })
}

/// Whether the container's processes are frozen.
pub fn is_frozen(cgroup: &Cgroup) -> bool {
    if let Some(path) = cgroup.hierarchy("freezer") {
        return v1::freezer_state(path).is_ok_and(|state| state != "THAWED");
    }
    let Some(path) = &cgroup.unified else {
        return false;
    };
    files::read(path, "cgroup.events")
        .is_ok_and(|events| events.lines().any(|line| line == "frozen 1"))
}
