//! A node: one root of brisk with its service, keeper and containers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::run;

/// A brisk root in a directory of its own; dropping it takes everything down.
pub struct Node {
    directory: tempfile::TempDir,
    has_config: bool,
}

impl Node {
    /// A node with an empty root.
    pub fn new() -> Self {
        Node {
            directory: tempfile::tempdir().unwrap(),
            has_config: false,
        }
    }

    /// A node with an empty root and that configuration file.
    pub fn with_config(text: &str) -> Self {
        let mut node = Node::new();
        node.configure(text);
        node
    }

    /// Writes its configuration anew, for what is started from now on.
    pub fn configure(&mut self, text: &str) {
        self.has_config = true;
        std::fs::write(self.path("config.toml"), text).unwrap();
    }

    /// The root.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A directory beside the root, for mount points and files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An empty directory beside the root.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A `brisk` command on this root.
    pub fn command<S: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brisk"));
        // The tests may have been started where SIGINT is ignored.
        sys::unblock_signals(&mut command);
        command.arg("--root").arg(self.root()).stdin(Stdio::null());
        // Before the verb: behind it, `run` would hand it to the program.
        if self.has_config {
            command.arg("--config").arg(self.path("config.toml"));
        }
        command.args(arguments);
        command.env("DOCKER_CONFIG", self.path("docker"));
        command
    }

    /// Runs `brisk` and expects success.
    pub fn brisk(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments))
    }

    /// Runs `brisk` whatever comes of it.
    pub fn try_brisk(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The service's status as JSON; asked for again where the service was killed meanwhile.
    pub fn status(&self) -> serde_json::Value {
        let mut output = self.try_brisk(&["status", "--json"]);
        for _ in 0..50 {
            if !super::text(&output.stderr).contains("went away") {
                break;
            }
            super::registry::pause(20);
            output = self.try_brisk(&["status", "--json"]);
        }
        let said = super::text(&output.stderr);
        assert!(output.status.success(), "brisk status: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Process ID of the service.
    pub fn service(&self) -> i32 {
        i32::try_from(self.status()["pid"].as_u64().unwrap()).unwrap()
    }

    /// Process ID of the keeper.
    pub fn keeper(&self) -> Option<i32> {
        let is_keeper = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).any(|word| word == b"keeper")
        };
        processes_of(&self.root()).into_iter().find(is_keeper)
    }

    /// `brisk inspect --json`.
    pub fn inspect(&self, reference: &str) -> serde_json::Value {
        let output = self.brisk(&["inspect", "--json", reference]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Kills and removes every container.
    fn remove_containers(&self) {
        let list = self.command(["ps", "-aq"]).output();
        let ids = list
            .map(|output| super::text(&output.stdout))
            .unwrap_or_default();
        if !ids.is_empty() {
            let mut remove = self.command(["rm", "-f"]);
            let _ = remove.args(ids.split_whitespace()).output();
        }
    }

    /// Mounts an image at a fresh directory.
    pub fn mount(&self, arguments: &[&str], name: &str) -> PathBuf {
        let directory = self.directory(name);
        let mut all = vec!["mount"];
        all.extend(arguments);
        run(self.command(all).arg(&directory));
        directory
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.remove_containers();
        let mut stop = self.command(["service-stop", "--unmount"]);
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        for mount in mounts_below(self.directory.path()).iter().rev() {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
        // A keeper that holds nothing ends at once, and takes its cgroups along.
        for _ in 0..200 {
            if self.keeper().is_none() {
                break;
            }
            super::registry::pause(10);
        }
        end_processes_of(&self.root());
    }
}

/// Mount points below a directory, in the order of mounting.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}/", directory.display());
    std::fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| path.starts_with(&prefix))
        .map(PathBuf::from)
        .collect()
}

/// Processes that were started with this root on their command line.
pub fn processes_of(root: &Path) -> Vec<i32> {
    let root = root.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line
            .split(|b| *b == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let is_ours = words
            .first()
            .is_some_and(|w| w.ends_with("/brisk") || w == "/proc/self/exe");
        if is_ours && words.iter().any(|w| *w == root) {
            found.push(pid);
        }
    }
    found
}

fn end_processes_of(root: &Path) {
    for pid in processes_of(root) {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
}
