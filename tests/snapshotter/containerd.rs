//! A containerd of the test's own: root, state, socket and configuration.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::daemon::LIMIT;
use super::support::node::mounts_below;
use super::support::registry::until;
use super::support::{Done, done};

/// A containerd whose proxy plugin `brisk` is at a socket. Dropping it ends it, its shims and
/// what they run.
pub struct Containerd {
    directory: tempfile::TempDir,
    child: Child,
}

impl Containerd {
    pub fn start(snapshotter: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().display();
        let text = format!(
            "version = 2\nroot = '{own}/root'\nstate = '{own}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.tracing.processor.v1.otlp']\n\
             [grpc]\naddress = '{own}/c.sock'\n[ttrpc]\naddress = '{own}/c.sock.ttrpc'\n\
             [proxy_plugins.brisk]\ntype = 'snapshot'\naddress = '{}'\n",
            snapshotter.display()
        );
        let config = directory.path().join("config.toml");
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new("containerd")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the tests need containerd");
        let containerd = Containerd { directory, child };
        until("containerd", LIMIT, || {
            containerd.socket().exists() && containerd.try_ctr(&["version"]).code == 0
        });
        containerd
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("c.sock")
    }

    /// Runs ctr whatever comes of it.
    pub fn try_ctr(&self, words: &[&str]) -> Done {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.socket()).args(words);
        done(&command)
    }

    /// Runs ctr, expects success and gives what it printed.
    pub fn ctr(&self, words: &[&str]) -> String {
        let done = self.try_ctr(words);
        if done.code != 0 {
            let log = std::fs::read_to_string(self.directory.path().join("log"));
            let log = log.unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(10).collect();
            panic!("ctr {words:?}: {done:?}\n{}", tail.join("\n"));
        }
        done.out
    }

    /// Waits until containerd has connected to the snapshotter again: it tries with pauses.
    pub fn wait_for_snapshotter(&self) {
        until("containerd's connection", LIMIT, || {
            let list = ["snapshots", "--snapshotter", "brisk", "ls"];
            self.try_ctr(&list).code == 0
        });
    }

    /// Names and kinds of the snapshots, as ctr lists them.
    pub fn snapshots(&self) -> Vec<(String, String)> {
        let table = self.ctr(&["snapshots", "--snapshotter", "brisk", "ls"]);
        let rows = table.lines().skip(1).map(|line| {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default().to_owned();
            (first, words.last().unwrap_or_default().to_owned())
        });
        rows.collect()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Shims, and what runs in containers, outlive it.
        let mark = self.directory.path().display().to_string();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let pid = entry.file_name().to_string_lossy().parse();
            if let Ok(pid) = pid
                && pid != std::process::id() as i32
                && String::from_utf8_lossy(&line).contains(&mark)
            {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        for mount in mounts_below(self.directory.path()).iter().rev() {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}
