//! A cgroup of the keeper's own in every hierarchy.
//!
//! A service manager that stops a unit kills what is in the unit's cgroup (systemd.kill(5),
//! KillMode), and a session's end does the same: the keeper must not be in there, or the mounts
//! of running containers would go with whatever happened to start it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the names of keepers' cgroups begin with.
pub const PREFIX: &str = "brisk-keeper-";

/// Times that entering is tried: another keeper may take an empty cgroup for a dead one's.
const ENTER_TRIES: u32 = 10;

/// One mounted cgroup hierarchy, as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Where it is mounted.
    top: PathBuf,
    /// The cgroup that this process is in.
    origin: PathBuf,
}

/// The cgroups of this process's own, by hierarchy.
#[derive(Debug)]
pub struct OwnCgroups {
    name: String,
    /// All mounted hierarchies, also those where no cgroup could be made.
    hierarchies: Vec<Hierarchy>,
}

impl OwnCgroups {
    /// Moves this process into a cgroup `PREFIX` + `suffix` of every hierarchy that allows it.
    /// Where one does not, the process stays where it is; that is only noted.
    pub fn enter(suffix: &str) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let hierarchies = hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let own = OwnCgroups {
            name: format!("{PREFIX}{suffix}"),
            hierarchies,
        };
        for hierarchy in &own.hierarchies {
            let path = hierarchy.top.join(&own.name);
            if let Err(error) = enter(&path) {
                // None of ours may be left empty.
                let _ = fs::remove_dir(&path);
                tracing::debug!(path = %path.display(), %error, "no cgroup of its own");
            }
            sweep(&hierarchy.top);
        }
        own
    }

    /// Puts a process that this one has started where this one came from: it is no part of the
    /// keeper. Where that cgroup is gone, it goes to the top of the hierarchy.
    pub fn put_back(&self, process: u32) {
        let process = process.to_string();
        for hierarchy in &self.hierarchies {
            let places = [&hierarchy.origin, &hierarchy.top];
            let moved = places.iter().any(|place| join(place, &process).is_ok());
            if !moved {
                let top = hierarchy.top.display();
                tracing::debug!(%top, process, "a service stays in its keeper's cgroup");
            }
        }
    }
}

impl Drop for OwnCgroups {
    /// Goes back and removes what was made.
    fn drop(&mut self) {
        self.put_back(std::process::id());
        for hierarchy in &self.hierarchies {
            // Where it cannot be removed now, the next keeper's sweep does it.
            let _ = fs::remove_dir(hierarchy.top.join(&self.name));
        }
    }
}

fn enter(path: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match make(path).and_then(|()| join(path, "0")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < ENTER_TRIES => {}
            other => return other,
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    // A new cpuset has neither processors nor memory, and no process can enter it (cpuset(7)).
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let above = path.parent().unwrap_or(path).join(file);
        let (own, above) = (path.join(file), fs::read_to_string(above));
        if let (Ok(now), Ok(above)) = (fs::read_to_string(&own), above)
            && now.trim().is_empty()
        {
            fs::write(own, above.trim())?;
        }
    }
    Ok(())
}

fn join(cgroup: &Path, process: &str) -> io::Result<()> {
    // Not created where it is missing: this is a kernel's file or none.
    let file = fs::File::options()
        .write(true)
        .open(cgroup.join("cgroup.procs"))?;
    io::Write::write_all(&mut &file, process.as_bytes())
}

/// Removes what keepers have left that were killed: the kernel keeps those that have processes.
fn sweep(top: &Path) {
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The hierarchies of a mountinfo (proc_pid_mountinfo(5)) with this process's place in each, by
/// its cgroup table (cgroups(7)).
fn hierarchies(mountinfo: &str, cgroups: &str) -> Vec<Hierarchy> {
    let mut found: Vec<(&str, Hierarchy)> = Vec::new();
    for line in mountinfo.lines() {
        let Some((place, kind)) = line.split_once(" - ") else {
            continue;
        };
        let mut place = place.split(' ').skip(3);
        let (Some(root), Some(top)) = (place.next(), place.next()) else {
            continue;
        };
        let mut kind = kind.split(' ');
        let (kind, options) = (kind.next().unwrap_or(""), kind.nth(1).unwrap_or(""));
        let Some((names, path)) = place_in(kind, options, cgroups) else {
            continue;
        };
        if found.iter().any(|(known, _)| *known == names) {
            continue;
        }
        let top = PathBuf::from(top);
        let below = Path::new(path).strip_prefix(root).ok();
        let origin = below.map_or_else(|| top.clone(), |below| top.join(below));
        found.push((names, Hierarchy { top, origin }));
    }
    found.into_iter().map(|(_, hierarchy)| hierarchy).collect()
}

/// The line of the cgroup table that belongs to a mount: its controllers, and the path.
fn place_in<'a>(kind: &str, options: &str, cgroups: &'a str) -> Option<(&'a str, &'a str)> {
    let mut lines = cgroups
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'));
    match kind {
        "cgroup2" => lines.find(|(names, _)| names.is_empty()),
        "cgroup" => lines.find(|(names, _)| {
            let has = |name| options.split(',').any(|option| option == name);
            !names.is_empty() && names.split(',').all(has)
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_with_the_place_in_each() {
        let mountinfo = "30 1 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
            32 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            33 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            34 30 0:28 / /elsewhere rw - cgroup2 cgroup2 rw\n\
            35 30 0:29 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            36 30 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let cgroups =
            "4:memory:/box/in\n3:cpu,cpuacct:/\n1:name=systemd:/a.slice/b.service\n0::/a\n";
        let found = hierarchies(mountinfo, cgroups);
        let expected = [
            ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/"),
            (
                "/sys/fs/cgroup/systemd",
                "/sys/fs/cgroup/systemd/a.slice/b.service",
            ),
            ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/a"),
            ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/in"),
        ];
        let expected: Vec<Hierarchy> = expected
            .iter()
            .map(|(top, origin)| Hierarchy {
                top: top.into(),
                origin: origin.into(),
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(hierarchies(mountinfo, ""), []);
    }
}
