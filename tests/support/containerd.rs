//! A containerd of the test's own: root, state, socket, configuration, namespace, cgroups, and,
//! where pods are to run, network.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::node::mounts_below;
use super::registry::{pause, until};
use super::{Done, done};

/// Nothing here takes as long, however busy the machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the hierarchies of cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A containerd. Dropping it ends it, its shims and what they run.
pub struct Containerd {
    directory: tempfile::TempDir,
    child: Child,
    name: String,
}

/// The runtime that is built with the tests.
pub fn brisk_runtime() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_brisk")).with_file_name("brisk-runtime");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

/// The configuration of the proxy plugin.
fn plugin(snapshotter: &Path) -> String {
    let address = snapshotter.display();
    format!("[proxy_plugins.brisk]\ntype = 'snapshot'\naddress = '{address}'\n")
}

impl Containerd {
    /// One without pods, and without other snapshotters than containerd's own.
    pub fn plain() -> Self {
        Self::launch(&mut Command::new("containerd"), |_, _| {
            without_pods(String::new())
        })
    }

    /// One whose proxy plugin `brisk` is at a socket.
    pub fn start(snapshotter: &Path) -> Self {
        let plugin = plugin(snapshotter);
        Self::launch(&mut Command::new("containerd"), |_, _| without_pods(plugin))
    }

    /// The same with its CRI plugin, which tells the snapshotter which image a layer is of.
    pub fn start_with_cri(snapshotter: &Path) -> Self {
        let cri = "[plugins.'io.containerd.grpc.v1.cri'.containerd]\n\
                   snapshotter = 'brisk'\ndisable_snapshot_annotations = false\n";
        let parts = without_tracing() + &plugin(snapshotter) + cri;
        Self::launch(&mut Command::new("containerd"), |_, _| parts)
    }

    /// One that runs pods, in a network namespace of its own, by the handlers `runc` (Debian's)
    /// and `brisk` (ours); the sandbox's image has that name.
    pub fn with_pods(sandbox_image: &str) -> Self {
        let mut command = Command::new("unshare");
        let script = "ip link set lo up && exec containerd \"$@\"";
        command.args(["--net", "sh", "-ec", script, "containerd"]);
        Self::launch(&mut command, |own, name| pods(own, name, sandbox_image))
    }

    fn launch(command: &mut Command, parts: impl FnOnce(&Path, &str) -> String) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("brisk-{}-{number}", std::process::id());
        let own = directory.path().display();
        let text = format!(
            "version = 2\nroot = '{own}/root'\nstate = '{own}/state'\n{}\
             [grpc]\naddress = '{own}/c.sock'\n[ttrpc]\naddress = '{own}/c.sock.ttrpc'\n",
            parts(directory.path(), &name)
        );
        let config = directory.path().join("config.toml");
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = command
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the tests need containerd");
        let containerd = Containerd {
            directory,
            child,
            name,
        };
        until("containerd", LIMIT, || {
            containerd.socket().exists() && containerd.try_ctr(&["version"]).code == 0
        });
        containerd
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("c.sock")
    }

    /// A path for the test's own files, which go with it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The name of its namespace, and of the cgroup that all its containers are below. No other
    /// containerd has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process ID.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// `ctr WORDS`, not yet started; an address and a namespace among the words win.
    pub fn ctr_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.socket());
        command.args(["-n", &self.name]).args(words);
        command
    }

    /// Runs ctr whatever comes of it.
    pub fn try_ctr(&self, words: &[&str]) -> Done {
        done(&self.ctr_command(words))
    }

    /// Runs ctr, expects success and gives what it printed.
    pub fn ctr(&self, words: &[&str]) -> String {
        let done = self.try_ctr(words);
        assert_eq!(done.code, 0, "ctr {words:?}: {done:?}\n{}", self.log());
        done.out
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
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

    /// The cgroups of all its containers, innermost first.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for hierarchy in std::fs::read_dir(CGROUPS).unwrap().flatten() {
            let parent = hierarchy.path().join(&self.name);
            found.extend(directories_below(&parent));
        }
        found
    }

    /// The sockets of the shims of its containers.
    pub fn shim_sockets(&self) -> Vec<PathBuf> {
        let entries = |directory: PathBuf| {
            let entries = std::fs::read_dir(directory).into_iter().flatten();
            entries.flatten().map(|entry| entry.path())
        };
        let namespaces = entries(self.path("state/io.containerd.runtime.v2.task"));
        let bundles = namespaces.flat_map(entries);
        let addresses = bundles.flat_map(|bundle| std::fs::read_to_string(bundle.join("address")));
        let sockets = addresses.filter_map(|text| Some(text.strip_prefix("unix://")?.into()));
        sockets.collect()
    }

    /// Processes that have its directory on their command line: itself and its shims.
    pub fn processes(&self) -> Vec<i32> {
        let mark = self.directory.path().display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let pid = entry.file_name().to_string_lossy().parse();
            if let Ok(pid) = pid
                && pid != std::process::id() as i32
                && String::from_utf8_lossy(&line).contains(&mark)
            {
                found.push(pid);
            }
        }
        found
    }
}

/// Settings without the part that runs pods.
fn without_pods(plugins: String) -> String {
    format!(
        "disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.tracing.processor.v1.otlp']\n{plugins}"
    )
}

/// Settings without traces, of a containerd that can run pods.
fn without_tracing() -> String {
    "disabled_plugins = ['io.containerd.tracing.processor.v1.otlp']\n".to_owned()
}

/// Settings of the part that runs pods, and the network they get: a bridge and addresses that no
/// other test has.
fn pods(own: &Path, name: &str, sandbox_image: &str) -> String {
    let networks = own.join("networks");
    std::fs::create_dir(&networks).unwrap();
    let number = std::process::id() % 65_536;
    let subnet = format!("10.{}.{}.0/24", number >> 8, number & 255);
    let network = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": name,
        "plugins": [{
            "type": "bridge",
            "bridge": format!("br{}", std::process::id()),
            "ipam": { "type": "host-local", "subnet": subnet, "dataDir": own.join("addresses") },
        }],
    });
    std::fs::write(networks.join("10-pods.conflist"), network.to_string()).unwrap();
    let handler = |handler: &str, binary: &Path| {
        let section = format!("plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.{handler}");
        format!(
            "[{section}]\nruntime_type = 'io.containerd.runc.v2'\n[{section}.options]\n\
             BinaryName = '{}'\nRoot = '{}'\n",
            binary.display(),
            own.join(handler).display()
        )
    };
    format!(
        "{}[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '{sandbox_image}'\n\
         restrict_oom_score_adj = true\nnetns_mounts_under_state_dir = true\n\
         [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/usr/lib/cni'\nconf_dir = '{}'\n{}{}",
        without_tracing(),
        networks.display(),
        handler("runc", Path::new("runc")),
        handler("brisk", &brisk_runtime()),
    )
}

/// A directory and all below it, innermost first; nothing where it is missing.
fn directories_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(directories_below(&entry.path()));
        }
    }
    found.push(directory.to_owned());
    found
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Shims, and what runs in containers, outlive it; a killed shim leaves its socket.
        for socket in self.shim_sockets() {
            let _ = std::fs::remove_file(socket);
        }
        for pid in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for _ in 0..500 {
            let cgroups = self.cgroups();
            if cgroups.is_empty() {
                break;
            }
            for cgroup in cgroups {
                let _ = std::fs::write(cgroup.join("freezer.state"), "THAWED");
                let inside = std::fs::read_to_string(cgroup.join("cgroup.procs"));
                for pid in inside.unwrap_or_default().lines() {
                    let pid = Pid::from_raw(pid.parse().unwrap_or_default());
                    if pid.as_raw() > 1 {
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                }
                let _ = std::fs::remove_dir(cgroup);
            }
            pause(10);
        }
        for mount in mounts_below(self.directory.path()).iter().rev() {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
        // What the library of network plugins remembers of pods has a fixed place.
        let pods = self.path("root/io.containerd.grpc.v1.cri/sandboxes");
        for pod in std::fs::read_dir(pods).into_iter().flatten().flatten() {
            let pod = pod.file_name().to_string_lossy().into_owned();
            let remembered = std::fs::read_dir("/var/lib/cni/results");
            for entry in remembered.into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().contains(&pod) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }
}
