//! Handing the descriptor of seccomp notifications to the agent that answers them.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::json;

use crate::error::{Context, Error, Result};
use crate::spec::Seccomp;
use crate::state::{SPEC_VERSION, State, Status};

/// A connection to the agent, and all that it is told, made before the filter is loaded: from
/// then on one sendmsg(2) is all that is needed.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    message: Vec<u8>,
}

impl Agent {
    /// Connects to `listenerPath`, where the profile has one, while paths are the host's.
    ///
    /// # Errors
    /// [`Error::Os`] naming the path.
    pub fn connect(profile: &Seccomp, state: &State, status: Status) -> Result<Option<Self>> {
        if profile.listener_path.is_empty() {
            return Ok(None);
        }
        let path = &profile.listener_path;
        let stream = UnixStream::connect(path)
            .doing(|| format!("connect to linux.seccomp.listenerPath {path}"))?;
        // The host's procfs counts as the host does.
        let own = std::fs::read_link("/proc/self").doing(|| "read /proc/self")?;
        let pid: i32 = own
            .to_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::invalid("/proc/self", "is no process number"))?;
        let mut state = state.clone();
        if state.pid == 0 {
            state.pid = pid;
        }
        let message = json!({
            "ociVersion": SPEC_VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": profile.listener_metadata,
            "state": state.report(status),
        });
        Ok(Some(Self {
            stream,
            message: message.to_string().into_bytes(),
        }))
    }

    /// Sends the descriptor with the process's state.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn send(&self, listener: &OwnedFd) -> Result<()> {
        let descriptors = [listener.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&descriptors)];
        let data = [IoSlice::new(&self.message)];
        let socket = self.stream.as_raw_fd();
        sendmsg::<()>(socket, &data, &control, MsgFlags::MSG_NOSIGNAL, None)
            .doing(|| "send the seccomp notification descriptor to its agent")?;
        Ok(())
    }
}
