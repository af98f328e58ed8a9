//! Containers that `ctr` runs by a runtime of choice from one tree.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::support::containerd::{Containerd, brisk_runtime};
use super::support::registry::until;
use super::support::{Done, busybox, done};

/// Nothing here takes as long, however busy the machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What every test here asks of runc as well: only then it is a question of the contract.
pub fn runtimes() -> [String; 2] {
    ["runc".to_owned(), brisk_runtime().display().to_string()]
}

/// A containerd and a tree.
pub struct Work {
    pub containerd: Containerd,
    runtime: String,
}

impl Work {
    /// Containers run by this runtime.
    pub fn with(runtime: &str) -> Self {
        let containerd = Containerd::plain();
        busybox::lay_out(&containerd.path("tree"));
        Work {
            containerd,
            runtime: runtime.to_owned(),
        }
    }

    /// `ctr run FLAGS TREE ID WORDS`, not yet started.
    pub fn run_command(&self, flags: &[&str], id: &str, words: &[&str]) -> Command {
        let (tree, root) = (self.containerd.path("tree"), self.containerd.path("runc"));
        let always = [
            "run",
            "--env",
            "PATH=/bin",
            "--runc-binary",
            &self.runtime,
            "--runc-root",
            root.to_str().unwrap(),
        ];
        let what = ["--rootfs", tree.to_str().unwrap(), id];
        self.containerd
            .ctr_command(&[&always, flags, &what, words].concat())
    }

    /// Runs it to its end, whatever comes of it.
    pub fn run(&self, flags: &[&str], id: &str, words: &[&str]) -> Done {
        done(&self.run_command(flags, id, words))
    }

    /// Starts a container that stays.
    pub fn detached(&self, flags: &[&str], id: &str, script: &str) {
        let flags = [&["-d"], flags].concat();
        let done = self.run(&flags, id, &["sh", "-c", script]);
        assert_eq!(
            done.code,
            0,
            "{script}: {done:?}\n{}",
            self.containerd.log()
        );
    }

    /// `ctr task WORDS`, whatever comes of it.
    pub fn task(&self, words: &[&str]) -> Done {
        self.containerd.try_ctr(&[&["task"], words].concat())
    }

    /// `ctr task exec` with these flags.
    pub fn exec(&self, flags: &[&str], id: &str, words: &[&str]) -> Done {
        self.task(&[&["exec"], flags, &[id], words].concat())
    }

    /// The process and the status that containerd has of a container's task, where it has one.
    pub fn status(&self, id: &str) -> Option<(i32, String)> {
        let table = self.containerd.ctr(&["task", "ls"]);
        let mut rows = table.lines().map(|line| line.split_whitespace());
        rows.find_map(|mut words| {
            (words.next() == Some(id)).then(|| {
                let pid = words.next().unwrap().parse().unwrap();
                (pid, words.next().unwrap().to_owned())
            })
        })
    }

    /// Waits until a task has a status.
    pub fn wait_for(&self, id: &str, status: &str) {
        until(&format!("{id} is {status}"), LIMIT, || {
            self.status(id).is_some_and(|(_, is)| is == status)
        });
    }

    /// A file of a container's cgroup.
    pub fn cgroup_file(&self, hierarchy: &str, id: &str, name: &str) -> String {
        let cgroup = format!("/sys/fs/cgroup/{hierarchy}/{}/{id}", self.containerd.name());
        let path = format!("{cgroup}/{name}");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        text.trim_end().to_owned()
    }

    /// What is left of a container in cgroups and in the runtime's own state.
    pub fn left(&self, id: &str) -> Vec<PathBuf> {
        let state = self.containerd.path("runc").join(self.containerd.name());
        let mut left = self.containerd.cgroups();
        left.retain(|path| path.ends_with(id));
        left.extend([state.join(id)].into_iter().filter(|path| path.exists()));
        left
    }

    /// Nothing is left.
    pub fn assert_gone(&self, id: &str) {
        let left = self.left(id);
        assert!(left.is_empty(), "{}: {left:?}", self.runtime);
    }
}
