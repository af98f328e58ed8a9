//! A bundle around a static busybox, and the runtime's binary, with everything removed at the
//! end. Needs root.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const APPLETS: &[&str] = &[
    "sh", "cat", "id", "ls", "sleep", "true", "false", "mount", "mkdir", "touch", "hostname",
    "pwd", "env", "grep", "stty", "tty", "echo", "kill", "readlink", "unshare", "umask", "head",
];

/// The runtime under test: the one that is shipped, or its copy with defences to switch off.
pub const RUNTIME: &str = match option_env!("CARGO_BIN_EXE_brisk-runtime") {
    Some(path) => path,
    None => match option_env!("CARGO_BIN_EXE_brisk-runtime-weakened") {
        Some(path) => path,
        None => "",
    },
};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// One container: its bundle, its state, its name.
pub struct Container {
    pub directory: tempfile::TempDir,
    pub id: String,
    pub spec: Value,
}

impl Container {
    /// A bundle that runs `script` in a shell.
    pub fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir(directory.path().join("rootfs/etc")).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("brisk-test-{}-{number}", std::process::id());
        let made = Command::new(RUNTIME)
            .args(["spec", "--bundle"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(made.success());
        let config = std::fs::read(directory.path().join("config.json")).unwrap();
        let mut spec: Value = serde_json::from_slice(&config).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["sh", "-c", script]);
        spec["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        Self {
            directory,
            id,
            spec,
        }
    }

    pub fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn save(&self) {
        let path = self.directory.path().join("config.json");
        std::fs::write(path, serde_json::to_vec(&self.spec).unwrap()).unwrap();
    }

    /// The runtime with `arguments`, limited in time so that a hang is a failure.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "30", RUNTIME, "--root"]);
        command
            .arg(self.root())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Calls and expects success.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Calls and expects failure; the words on standard error.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert!(!output.status.success(), "{arguments:?} went well");
        String::from_utf8(output.stderr).unwrap()
    }

    fn bundle(&self) -> String {
        self.directory.path().to_str().unwrap().to_owned()
    }

    /// `run` in the foreground.
    pub fn run(&self) -> Output {
        self.save();
        self.call(&["run", "--bundle", &self.bundle(), &self.id])
    }

    /// What the script prints.
    pub fn output(&self) -> String {
        let output = self.run();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?}: {errors}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// `create` with further flags. Its streams go nowhere: a container would hold a pipe open.
    pub fn create(&self, flags: &[&str]) -> Output {
        self.save();
        let bundle = self.bundle();
        let errors = self.directory.path().join("stderr");
        let file = std::fs::File::create(&errors).unwrap();
        let status = self
            .command(&["create"])
            .arg(&self.id)
            .args(["--bundle", &bundle])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(file)
            .status()
            .unwrap();
        Output {
            status,
            stdout: Vec::new(),
            stderr: std::fs::read(&errors).unwrap(),
        }
    }

    /// Created and started.
    pub fn start(&self) {
        let created = self.create(&[]);
        assert!(
            created.status.success(),
            "{}",
            String::from_utf8_lossy(&created.stderr)
        );
        self.ok(&["start", &self.id]);
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state", &self.id])).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    pub fn wait_for(&self, status: &str) {
        wait_until(&format!("{} is {status}", self.id), || {
            self.status() == status
        });
    }

    /// The container's directory in each hierarchy that has one.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let directories = hierarchies.map(|entry| entry.path().join(&self.id));
        directories.filter(|path| path.exists()).collect()
    }

    pub fn cgroup_file(&self, controller: &str, name: &str) -> String {
        let path = Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(&self.id)
            .join(name);
        std::fs::read_to_string(path).unwrap().trim_end().to_owned()
    }

    /// Nothing of the container is left.
    pub fn assert_gone(&self) {
        assert!(!self.root().join(&self.id).exists(), "state is left");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "cgroups are left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(self.directory.path().to_str().unwrap()),
            "mounts are left"
        );
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.id]);
        for cgroup in self.cgroups() {
            let _ = std::fs::remove_dir(cgroup);
        }
    }
}

/// Waits for a condition, with a limit.
#[expect(
    clippy::disallowed_methods,
    reason = "states of other processes have no event"
)]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
