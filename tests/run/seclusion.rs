//! Where the keeper lives, and what becomes of the mounts that nobody serves.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::registry::{pause, until};

/// Nothing here may take longer, however busy the machine is.
const HANG: Duration = Duration::from_secs(60);

const PREFIX: &str = "brisk-keeper-";

/// Where cgroup hierarchies are mounted.
fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let is_cgroup = |line: &&str| matches!(line.split(' ').nth(2), Some("cgroup" | "cgroup2"));
    let place = |line: &str| line.split(' ').nth(1).map(PathBuf::from);
    table.lines().filter(is_cgroup).filter_map(place).collect()
}

/// A cgroup that is removed with the value, as any process could make it for itself.
struct Trial(PathBuf);

impl Trial {
    fn is_allowed(top: &Path) -> bool {
        let trial = Trial(top.join(format!("brisk-trial-{}", std::process::id())));
        if fs::create_dir(&trial.0).is_err() {
            return false;
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let above = fs::read_to_string(top.join(file)).unwrap_or_default();
            let _ = fs::write(trial.0.join(file), above.trim());
        }
        let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
        let entered = fs::write(trial.0.join("cgroup.procs"), sleep.id().to_string()).is_ok();
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        entered
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // The kernel may still be counting a dead process.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            pause(10);
        }
    }
}

/// The keepers' cgroups that a process is in.
fn keeper_cgroups(pid: i32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let name = |line: &str| line.rsplit('/').next().map(str::to_owned);
    let is_own = |name: &String| name.starts_with(PREFIX);
    table.lines().filter_map(name).filter(is_own).collect()
}

#[test]
fn the_keeper_lives_in_cgroups_of_its_own_and_leaves_none() {
    let lab = Lab::new("zoo");
    let allowed: Vec<PathBuf> = hierarchies()
        .into_iter()
        .filter(|top| Trial::is_allowed(top))
        .collect();
    lab.detached(&["--name", "held", "--background", "off"], "sleep 1000");
    let keeper = lab.node.keeper().unwrap();
    let names = keeper_cgroups(keeper);
    assert_eq!(names.len(), allowed.len(), "{names:?} of {allowed:?}");
    let Some(name) = names.first().cloned() else {
        return;
    };
    assert!(names.iter().all(|other| *other == name), "{names:?}");
    for top in &allowed {
        let members = fs::read_to_string(top.join(&name).join("cgroup.procs")).unwrap();
        assert_eq!(members.trim(), keeper.to_string(), "{}", top.display());
    }

    // Neither the first service nor one that the keeper has started lives there.
    let first = lab.node.service();
    assert_eq!(keeper_cgroups(first), [""; 0]);
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    until("the next service", HANG, || lab.node.service() != first);
    until("its own cgroup", HANG, || {
        keeper_cgroups(lab.node.service()).is_empty()
    });

    // One that was killed is succeeded in the same place.
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    until("another keeper", HANG, || {
        lab.node
            .keeper()
            .is_some_and(|pid| pid != keeper && keeper_cgroups(pid).len() == names.len())
    });
    assert_eq!(lab.brisk(&["rm", "-f", "held"]).code, 0);
    lab.node.brisk(&["service-stop"]);
    until("the end of the keeper's cgroups", HANG, || {
        allowed.iter().all(|top| !top.join(&name).exists())
    });
    assert_eq!(lab.node.keeper(), None);
}

fn mount_namespace(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap()
}

#[test]
fn a_private_mount_namespace_is_not_pinned() {
    let lab = Lab::new("zoo");
    let own = mount_namespace(std::process::id() as i32);
    let host = ["/proc/1/ns/mnt", "/proc/2/ns/mnt"];
    let host = host.iter().find_map(|path| fs::read_link(path).ok());
    if host != Some(own.clone()) {
        eprintln!("skipped: this test does not run in the host's mount namespace");
        return;
    }
    let privately = |words: &[&str]| {
        let inner = lab.node.command(words);
        let mut outer = Command::new("unshare");
        outer.args(["--mount", "--propagation", "private"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            outer.env(name, value.unwrap_or_default());
        }
        crate::support::done(&outer)
    };
    let words = ["run", "-d", "--name", "held", "--background", "off"];
    let words = [&words[..], &[lab.image.as_str(), "sh", "-c", "sleep 1000"]].concat();
    let started = privately(&words);
    assert_eq!(started.code, 0, "{started:?}");
    for pid in crate::support::node::processes_of(&lab.node.root()) {
        assert_eq!(mount_namespace(pid), own, "process {pid}");
    }
    // Both sides see the container, and share its mount.
    let inside = privately(&["exec", "held", "cat", "/zoo/small"]);
    assert_eq!(inside.out, "small\n", "{inside:?}");
    assert_eq!(lab.run(&[], &["cat", "/zoo/small"]).out, "small\n");
    // A mount that its user would not see is refused, and none is left.
    let place = lab.node.directory("place");
    let refused = privately(&["mount", &lab.image, place.to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("mount namespace"), "{refused:?}");
    until("the end of the mount", HANG, || {
        fs::read_dir(&place).unwrap().next().is_none()
    });
    assert_eq!(lab.brisk(&["rm", "-f", "held"]).code, 0);
}

/// A program that is killed with the value.
struct Reader(Child);

impl Reader {
    fn start(file: &Path) -> Self {
        let mut cat = Command::new("cat");
        let child = cat
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Reader(child.unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn orphans_wait_for_the_next_service_or_get_an_error_in_time() {
    let lab = Lab::new("zoo");
    let mounted = lab.node.mount(&["--background", "off", &lab.image], "user");
    assert_eq!(lab.node.status()["orphan_timeout"], "off");
    lab.node.brisk(&["service-stop"]);
    let mut waits = Reader::start(&mounted.join("zoo/random"));
    // Longer than the other node's timeout: nothing aborts this one.
    pause(3000);
    assert!(!waits.has_ended());
    lab.node.status();
    until("the read to go on", HANG, || waits.has_ended());
    assert!(waits.0.wait().unwrap().success());

    let node = Node::with_config("[service]\norphan_timeout = \"1s\"\n");
    let mounted = node.mount(&["--background", "off", &lab.image], "user");
    assert_eq!(node.status()["orphan_timeout"], "1s");
    node.brisk(&["service-stop"]);
    let mut fails = Reader::start(&mounted.join("zoo/random"));
    until("the read to fail", HANG, || fails.has_ended());
    assert!(!fails.0.wait().unwrap().success());
    let mut said = String::new();
    let stderr = fails.0.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.contains("zoo/random"), "{said}");
    // Nothing is held any more, so the keeper has ended; what it left is cleared away.
    until("the keeper's end", HANG, || node.keeper().is_none());
    let again = node.mount(&["--background", "off", &lab.image], "again");
    assert!(again.join("zoo/random").exists());
}
