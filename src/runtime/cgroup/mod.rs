//! The container's control groups: version 1 hierarchies, version 2, or both beside each other.

mod below;
mod device_program;
mod device_rules;
mod devices;
mod discover;
mod entrance;
#[cfg(test)]
mod fake;
mod files;
mod freezer;
mod oom;
mod rdt;
mod statistics;
mod systemd;
mod v1;
mod v2;

pub use discover::Layout;
pub use entrance::Entrance;
pub use files::pause_briefly;
pub use oom::{Happening, Watch};
pub use rdt::RdtGroup;
pub use statistics::Statistics;
pub use systemd::Unit;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::spec::Resources;

/// Where a container's processes are confined. Saved in the container's state.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Cgroup {
    /// One directory per version 1 hierarchy.
    pub hierarchies: Vec<Hierarchy>,
    /// The directory in the cgroup2 tree. It carries limits only when there are no hierarchies
    /// of version 1; beside them it is there for what reads it (CLONE_INTO_CGROUP, statistics).
    pub unified: Option<PathBuf>,
    /// Root of the cgroup2 tree.
    pub unified_mount: Option<PathBuf>,
    /// The unit, where systemd makes the directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// Its share of caches and memory bandwidth, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<RdtGroup>,
    /// Directories above the container's that were made for it, the deepest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<PathBuf>,
}

/// The container's directory in one version 1 hierarchy.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Hierarchy {
    /// Controllers of the hierarchy, or `name=NAME`.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The container's directory.
    pub path: PathBuf,
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

impl Cgroup {
    /// The directory of the hierarchy with `controller`.
    #[must_use]
    pub fn hierarchy(&self, controller: &str) -> Option<&Path> {
        let hierarchy = self
            .hierarchies
            .iter()
            .find(|hierarchy| hierarchy.has(controller))?;
        Some(&hierarchy.path)
    }

    /// Whether the limits live in the cgroup2 tree.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.hierarchies.is_empty()
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        let hierarchies = self
            .hierarchies
            .iter()
            .map(|hierarchy| hierarchy.path.as_path());
        hierarchies.chain(self.unified.as_deref())
    }

    /// Makes the directories and writes the limits, before there is a process; systemd's are
    /// made with the process, in [`Cgroup::admit`]. What was made is removed again on failure.
    ///
    /// # Errors
    /// [`Error::Os`] naming the directory or file; as [`Cgroup::limit`].
    pub fn prepare(&mut self, resources: &Resources) -> Result<()> {
        if self.unit.is_some() {
            return Ok(());
        }
        let made = self
            .make()
            .and_then(|()| self.limit(resources))
            .and_then(|()| self.restrict_devices(resources));
        if made.is_err() {
            self.remove();
        }
        made
    }

    /// Notes what of the directories above its own is not there and will go with it: before
    /// anything is made, so that a record of it finds all.
    pub fn note_missing(&mut self) {
        let missing = self.directories().flat_map(files::missing_above);
        self.above = missing.map(Path::to_owned).collect();
    }

    /// Takes the process in as far as it does not go in by itself, through [`Entrance`]: where
    /// systemd makes the directories, and into its share of caches. (Into the cgroup2 directory
    /// it was born, without systemd.)
    ///
    /// # Errors
    /// [`Error::Os`] naming the file; [`Error::Systemd`]; as [`Cgroup::limit`].
    pub fn admit(
        &mut self,
        pid: i32,
        resources: &Resources,
        annotations: &BTreeMap<String, String>,
    ) -> Result<()> {
        let unified = self.is_unified();
        if let Some(unit) = &mut self.unit {
            unit.start(pid, unified, resources, annotations)?;
            self.make()?;
            self.limit(resources)?;
            self.restrict_devices(resources)?;
            if let Some(path) = &self.unified {
                files::write(path, "cgroup.procs", &pid.to_string())?;
            }
            return self.attach(pid);
        }
        self.admit_to_share(pid)
    }

    fn admit_to_share(&self, pid: i32) -> Result<()> {
        self.rdt.as_ref().map_or(Ok(()), |group| group.admit(pid))
    }

    fn make(&mut self) -> Result<()> {
        for directory in self.directories() {
            files::make(directory).doing(|| format!("make cgroup {}", directory.display()))?;
        }
        for hierarchy in self
            .hierarchies
            .iter()
            .filter(|hierarchy| hierarchy.has("cpuset"))
        {
            v1::inherit_cpuset(&hierarchy.mount, &hierarchy.path)?;
        }
        if self.is_unified()
            && let (Some(mount), Some(path)) = (&self.unified_mount, &self.unified)
        {
            v2::hand_down(mount, path, |_| true);
        }
        Ok(())
    }

    /// The device rules of a new container. An ordinary user may have a cgroup without the right
    /// to load programs; nor has it the right to make device nodes.
    fn restrict_devices(&self, resources: &Resources) -> Result<()> {
        match self.limit_devices(resources) {
            Err(Error::Os { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied
                    && !rustix::process::geteuid().is_root() =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Changes limits of a container that is there.
    ///
    /// # Errors
    /// As [`Cgroup::limit`]; [`Error::Systemd`].
    pub fn change(&self, resources: &Resources) -> Result<()> {
        if let Some(unit) = &self.unit {
            unit.change(self.is_unified(), resources)?;
        }
        self.limit(resources)
    }

    /// Writes the limits.
    ///
    /// # Errors
    /// [`Error::Os`] naming the file; [`Error::Unsupported`] for a limit without a controller.
    pub fn limit(&self, resources: &Resources) -> Result<()> {
        if self.is_unified() {
            return match &self.unified {
                Some(path) => v2::limit(path, resources),
                None => Err(Error::unsupported(
                    "linux.resources",
                    "no cgroup is mounted",
                )),
            };
        }
        if !resources.unified.is_empty() {
            let reason = "invalid configuration: the controllers of this machine are in version 1 hierarchies";
            return Err(Error::unsupported("linux.resources.unified", reason));
        }
        v1::limit(self, resources)
    }

    /// That `field` needs a controller that is not there.
    fn missing(&self, field: &str, controller: &str) -> Error {
        Error::unsupported(field, format!("the {controller} controller is not mounted"))
    }

    /// Applies the device rules.
    ///
    /// # Errors
    /// As [`Cgroup::limit`].
    pub fn limit_devices(&self, resources: &Resources) -> Result<()> {
        devices::apply(self, &resources.devices)
    }

    /// The cgroup2 directory, for a process to be born in.
    ///
    /// # Errors
    /// [`Error::Os`] from opening it.
    pub fn birthplace(&self) -> Result<Option<OwnedFd>> {
        let Some(path) = self.unified.as_ref().filter(|_| !self.is_foreign()) else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .doing(|| format!("open {}", path.display()))?;
        Ok(Some(directory))
    }

    /// Moves `pid` into every version 1 directory (the cgroup2 one it was born in), and into its
    /// share of caches.
    ///
    /// # Errors
    /// [`Error::Os`] naming the file.
    pub fn attach(&self, pid: i32) -> Result<()> {
        for hierarchy in &self.hierarchies {
            files::write(&hierarchy.path, "cgroup.procs", &pid.to_string())?;
        }
        self.admit_to_share(pid)
    }

    /// All processes of the container, those in cgroups below included.
    ///
    /// # Errors
    /// [`Error::Os`] naming the file.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut found = Vec::new();
        if self.is_foreign() {
            return Ok(found);
        }
        // Any directory will do; those that everything stays in come first.
        let first = ["freezer", "devices", "pids", "memory"];
        let directory = first.iter().find_map(|name| self.hierarchy(name));
        if let Some(directory) = directory.or_else(|| self.directories().next()) {
            files::collect_processes(directory, &mut found, 0)?;
        }
        Ok(found)
    }

    /// What the container uses.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        statistics::read(self)
    }

    /// Stops all processes from running.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a freezer.
    pub fn freeze(&self) -> Result<()> {
        freezer::set(self, true)
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a freezer.
    pub fn thaw(&self) -> Result<()> {
        freezer::set(self, false)
    }

    /// Whether they are stopped.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        freezer::is_frozen(self)
    }

    /// Removes the directories with those below them, and those above that were made for them and
    /// are empty. A directory that still has processes stays.
    pub fn remove(&self) {
        if let Some(group) = &self.rdt {
            group.remove();
        }
        if self.is_foreign() {
            return;
        }
        if let Some(unit) = &self.unit {
            unit.stop();
        }
        for directory in self.directories() {
            files::remove_tree(directory, 0);
        }
        for directory in &self.above {
            let _ = std::fs::remove_dir(directory);
        }
    }
}
