//! One `--root` with images, the program run over it, and a look at what it leaves.

use crate::program::{AWAY, HOLDS, IMAGES};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything a test waits for.
const LIMIT: Duration = Duration::from_secs(30);

/// A host of containers; everything goes with it, also when a test fails.
pub struct Node {
    directory: tempfile::TempDir,
}

/// What one call of the program gave.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Node {
    pub fn new() -> Node {
        let directory = tempfile::Builder::new()
            .prefix("brisk-container")
            .tempdir()
            .unwrap();
        let node = Node { directory };
        std::fs::create_dir_all(node.images().join(HOLDS)).unwrap();
        node.add_image("box", r#"{"Cmd": ["sh"], "Env": ["FROM=image"]}"#);
        node
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub fn images(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    /// A scratch directory of the host.
    pub fn scratch(&self) -> PathBuf {
        let path = self.directory.path().join("scratch");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Makes an image of busybox with this configuration.
    pub fn add_image(&self, name: &str, config: &str) {
        let image = self.images().join(name);
        let rootfs = image.join("rootfs");
        for directory in ["bin", "etc", "tmp", "data"] {
            std::fs::create_dir_all(rootfs.join(directory)).unwrap();
        }
        std::fs::set_permissions(rootfs.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        std::fs::copy("/bin/busybox", rootfs.join("bin/busybox"))
            .expect("the tests need busybox-static");
        let applets = Command::new("/bin/busybox")
            .arg("--list")
            .output()
            .unwrap()
            .stdout;
        for applet in String::from_utf8(applets).unwrap().lines() {
            if applet != "busybox" {
                symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
            }
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var/www:/bin/sh\n";
        std::fs::write(rootfs.join("etc/passwd"), passwd).unwrap();
        std::fs::write(rootfs.join("etc/group"), "root:x:0:\nextra:x:99:web\n").unwrap();
        std::fs::write(rootfs.join("data/file"), "from the image\n").unwrap();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{config},
                "rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        std::fs::write(image.join("config.json"), config).unwrap();
    }

    /// The program with these arguments; `run` gets the runtime of the tests.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .env(IMAGES, self.images())
            .arg("--root")
            .arg(self.root());
        let mut words = words.iter();
        if let Some(verb) = words.next() {
            command.arg(verb);
            if *verb == "run" {
                let runtime = std::env::var("BRISK_TEST_RUNTIME");
                command
                    .arg("--runtime")
                    .arg(runtime.unwrap_or("/usr/sbin/runc".to_owned()));
            }
        }
        command.args(words).stdin(Stdio::null());
        command
    }

    pub fn brisk(&self, words: &[&str]) -> Done {
        let output = self.command(words).output().unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs `sh -c script` in a container that is removed at its end.
    pub fn shell(&self, flags: &[&str], script: &str) -> Done {
        let words = [&["run", "--rm"], flags, &["box", "sh", "-c", script]].concat();
        self.brisk(&words)
    }

    /// A call that must succeed; gives what it wrote, without the newline at its end.
    pub fn must(&self, words: &[&str]) -> String {
        let done = self.brisk(words);
        assert_eq!(done.code, 0, "{words:?}: {done:?}");
        done.stdout.trim_end().to_owned()
    }

    /// Starts the program with all its streams piped.
    pub fn start(&self, words: &[&str]) -> Running {
        let mut command = self.command(words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running {
            child: command.spawn().unwrap(),
        }
    }

    /// Whether the mount service is away.
    pub fn set_away(&self, away: bool) {
        let path = self.images().join(AWAY);
        if away {
            std::fs::write(path, "").unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// Ids of all container directories.
    pub fn containers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join("containers"))
            .into_iter()
            .flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "names").collect()
    }

    /// The monitor processes of this node.
    pub fn monitors(&self) -> Vec<i32> {
        let root = self.root();
        let needle = root.to_str().unwrap();
        processes()
            .filter(|pid| {
                let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let words = String::from_utf8_lossy(&words).into_owned();
                words.contains(needle) && words.ends_with("monitor\0")
            })
            .collect()
    }

    /// Everything that containers of this node have left behind.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = mounts_below(&self.root());
        left.extend(
            self.containers()
                .into_iter()
                .map(|id| format!("container {id}")),
        );
        left.extend(
            self.monitors()
                .into_iter()
                .map(|pid| format!("monitor {pid}")),
        );
        let names = |path: PathBuf| {
            let entries = std::fs::read_dir(path).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap())
        };
        left.extend(names(self.root().join("containers/names")).map(|n| format!("name {n}")));
        left.extend(names(self.images().join(HOLDS)).map(|n| format!("hold {n}")));
        left.extend(names(self.root().join("runtime")).map(|n| format!("runtime state {n}")));
        left
    }

    /// Fails unless nothing is left, now or soon.
    pub fn assert_clean(&self) {
        wait_until(
            "nothing is left",
            || self.leftovers().is_empty(),
            || format!("{:?}", self.leftovers()),
        );
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.images().join(AWAY).exists() {
            self.set_away(false);
        }
        for id in self.containers() {
            let _ = self.brisk(&["rm", "--force", &id]);
        }
        for pid in self.monitors() {
            signal(pid, rustix::process::Signal::KILL);
        }
        for mount in mounts_below(&self.root()).iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
    }
}

/// Points below `path` where something is mounted.
fn mounts_below(path: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| Path::new(point).starts_with(path))
        .map(str::to_owned)
        .collect()
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// cgroups of this container in any hierarchy.
pub fn cgroups(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let own = PathBuf::from(format!("/sys/fs/cgroup/brisk-{id}"));
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    found.extend(hierarchies.map(|entry| entry.path().join(format!("brisk-{id}"))));
    found.push(own);
    found.retain(|path| path.exists());
    found
}

/// Sends a signal; a process that has gone is no error.
pub fn signal(pid: i32, signal: rustix::process::Signal) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal);
}

/// Waits for a condition, looking at it again and again.
#[allow(
    clippy::disallowed_methods,
    reason = "a condition of other processes tells nobody"
)]
pub fn wait_until(what: &str, condition: impl Fn() -> bool, state: impl Fn() -> String) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited in vain until {what}: {}",
            state()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A program that runs beside the test.
pub struct Running {
    child: Child,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, number: rustix::process::Signal) {
        signal(self.pid(), number);
    }

    pub fn write(&mut self, text: &str) {
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    pub fn close_output(&mut self) {
        self.child.stdout = None;
    }

    /// Reads stdout until it holds `text`.
    pub fn read_until(&mut self, text: &str) -> String {
        let stdout = self.child.stdout.as_mut().unwrap();
        let mut seen = Vec::new();
        let mut byte = [0u8; 1];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let count = stdout.read(&mut byte).unwrap();
            assert!(
                count > 0,
                "the output ended: {:?}",
                String::from_utf8_lossy(&seen)
            );
            seen.push(byte[0]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Waits for the end within the limit; gives exit code (-signal) and both outputs.
    pub fn finish(mut self) -> Done {
        self.child.stdin = None;
        let read = |stream: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut stream) = stream {
                    let _ = stream.read_to_end(&mut bytes);
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = read(
            self.child
                .stdout
                .take()
                .map(|s| Box::new(s) as Box<dyn Read + Send>),
        );
        let stderr = read(
            self.child
                .stderr
                .take()
                .map(|s| Box::new(s) as Box<dyn Read + Send>),
        );
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("the program did not end");
            }
            #[allow(
                clippy::disallowed_methods,
                reason = "waiting for a child with a limit"
            )]
            std::thread::sleep(Duration::from_millis(5));
        };
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
        Done {
            code,
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
        }
    }
}
