//! Handing the descriptor of seccomp notifications to the agent that answers them.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::json;

use crate::error::{Context, Error, Result};
use crate::spec::Seccomp;
use crate::state::{SPEC_VERSION, State, Status};

/// A connection to the agent, made before the filter is loaded: from then on one sendmsg(2) is all
/// that is needed.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    metadata: String,
}

impl Agent {
    /// Connects to `listenerPath`, where the profile has one, while paths are the host's.
    ///
    /// # Errors
    /// [`Error::Os`] naming the path.
    pub fn connect(profile: &Seccomp) -> Result<Option<Self>> {
        if profile.listener_path.is_empty() {
            return Ok(None);
        }
        let path = &profile.listener_path;
        let stream = UnixStream::connect(path).doing(|| {
            format!("failed to connect with seccomp agent at linux.seccomp.listenerPath {path}")
        })?;
        Ok(Some(Self {
            stream,
            metadata: profile.listener_metadata.clone(),
        }))
    }

    /// What the agent is told of this process, while procfs is the host's and counts as it does.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn describe(&self, state: &State, status: Status) -> Result<Vec<u8>> {
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
            "metadata": self.metadata,
            "state": state.report(status),
        });
        Ok(message.to_string().into_bytes())
    }

    /// Sends the descriptor with the process's state.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn send(&self, listener: &OwnedFd, message: &[u8]) -> Result<()> {
        let descriptors = [listener.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&descriptors)];
        let data = [IoSlice::new(message)];
        let socket = self.stream.as_raw_fd();
        sendmsg::<()>(socket, &data, &control, MsgFlags::MSG_NOSIGNAL, None)
            .doing(|| "send the seccomp notification descriptor to its agent")?;
        Ok(())
    }
}
