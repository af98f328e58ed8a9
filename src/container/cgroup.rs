//! What is left of a container's cgroup where its runtime could not clear it away.

use super::id::ContainerId;
use super::process::{ProcessIdentity, timespec};
use super::spec::cgroup_path;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Times the removal of a cgroup is tried while its last processes die.
const REMOVE_TRIES: u32 = 100;
/// Pause between two tries: a killed process is gone within a few milliseconds.
const REMOVE_PAUSE: Duration = Duration::from_millis(20);
/// Depth of cgroups that a container can make below its own and that are cleared.
const MAX_DEPTH: u32 = 16;

/// Kills what runs in the container's cgroups and removes them, in every hierarchy.
/// Returns those that are still there.
pub fn sweep(id: &ContainerId) -> Vec<PathBuf> {
    let name = cgroup_path(id);
    let name = name.strip_prefix("/").unwrap_or(&name);
    let mut left: Vec<PathBuf> = mounts()
        .into_iter()
        .map(|mount| mount.join(name))
        .filter(|path| path.is_dir())
        .collect();
    for attempt in 0..REMOVE_TRIES {
        left.retain(|path| !remove(path, MAX_DEPTH));
        if left.is_empty() || attempt + 1 == REMOVE_TRIES {
            break;
        }
        // Nothing tells when the last process of a v1 cgroup is gone: looked at again.
        let _ = rustix::event::poll(&mut [], Some(&timespec(REMOVE_PAUSE)));
    }
    left
}

/// Kills and removes, children first; tells whether the cgroup is gone.
fn remove(path: &Path, depth: u32) -> bool {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path(), depth - 1);
        }
    }
    let processes = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for process in processes
        .lines()
        .filter_map(|line| line.trim().parse().ok())
    {
        if let Some(process) = ProcessIdentity::of(process).and_then(|identity| identity.open()) {
            // One that has just ended needs no signal.
            let _ = process.kill();
        }
    }
    match std::fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Where cgroup hierarchies are mounted, whole or in part (proc_pid_mountinfo(5)).
fn mounts() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let kind = kind.split(' ').next()?;
            matches!(kind, "cgroup" | "cgroup2").then(|| place.split(' ').nth(4))?
        })
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_killed_and_directories_removed() {
        let id = ContainerId::random().unwrap();
        let Some(mount) = mounts()
            .into_iter()
            .find(|mount| mount.join("cgroup.procs").exists())
        else {
            return;
        };
        let cgroup = mount.join(cgroup_path(&id).strip_prefix("/").unwrap());
        // Without the right to make cgroups there is nothing to clear.
        if std::fs::create_dir_all(cgroup.join("inner")).is_err() {
            return;
        }
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        std::fs::write(cgroup.join("inner/cgroup.procs"), child.id().to_string()).unwrap();
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        assert_eq!(sweep(&id), Vec::<PathBuf>::new());
        assert!(!cgroup.exists());
        assert!(!reaper.join().unwrap().success());
    }
}
