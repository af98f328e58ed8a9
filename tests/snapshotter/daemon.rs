//! A `brisk daemon` on a node's root.

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::support::node::Node;
use super::support::registry::until;

/// Nothing here takes as long, however busy the machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A daemon; dropping it kills it.
pub struct Daemon {
    child: Child,
    pub socket: PathBuf,
}

impl Daemon {
    /// The command that starts a daemon of the node.
    pub fn command(node: &Node) -> Command {
        let mut command = node.command(["daemon", "--socket"]);
        command.arg(node.path("s.sock")).stdout(Stdio::null());
        command
    }

    /// Starts one and waits until it says that it is ready.
    pub fn start(node: &Node) -> Self {
        Self::start_with(node, &[])
    }

    /// The same with further words.
    pub fn start_with(node: &Node, words: &[&str]) -> Self {
        let heard = node.path("notify");
        let _ = std::fs::remove_file(&heard);
        let manager = UnixDatagram::bind(&heard).unwrap();
        manager.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = Self::command(node);
        let child = command
            .args(words)
            .env("NOTIFY_SOCKET", &heard)
            .spawn()
            .unwrap();
        let daemon = Daemon {
            child,
            socket: node.path("s.sock"),
        };
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).expect("the daemon gets ready");
        assert_eq!(&buffer[..length], b"READY=1");
        UnixStream::connect(&daemon.socket).expect("a ready daemon answers");
        daemon
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Ends it as a service manager does.
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        until("the daemon's end", LIMIT, || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
