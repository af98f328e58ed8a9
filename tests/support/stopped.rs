//! Processes that are held still.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::registry::DockerRegistry;

/// A process that is held still until the value is dropped.
pub struct Stopped(Pid);

impl Stopped {
    /// Holds a process still.
    pub fn new(pid: i32) -> Self {
        let pid = Pid::from_raw(pid);
        kill(pid, Signal::SIGSTOP).unwrap();
        Stopped(pid)
    }

    /// A registry that accepts connections and answers nothing.
    pub fn registry(registry: &DockerRegistry) -> Self {
        Self::new(i32::try_from(registry.pid()).unwrap())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
