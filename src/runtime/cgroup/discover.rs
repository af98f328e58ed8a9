//! Which hierarchies are mounted, and where in them this process is.

use std::path::{Component, Path, PathBuf};

use crate::cgroup::{Cgroup, Hierarchy, Unit};
use crate::error::{Context, Error, Result};

/// The mounted hierarchies.
#[derive(Debug, Default)]
pub struct Layout {
    v1: Vec<Mounted>,
    v2: Option<Mounted>,
}

#[derive(Debug)]
struct Mounted {
    /// `cpu,cpuacct`, `name=systemd`; empty for version 2.
    controllers: Vec<String>,
    mount: PathBuf,
    /// Directory of this process below `mount`, relative.
    own: PathBuf,
}

impl Layout {
    /// Reads what `/proc/self` says.
    ///
    /// # Errors
    /// [`Error::Os`] when procfs cannot be read.
    pub fn read() -> Result<Self> {
        let mounts = read("/proc/self/mountinfo")?;
        let groups = read("/proc/self/cgroup")?;
        Ok(Self::parse(&mounts, &groups))
    }

    fn parse(mounts: &str, groups: &str) -> Self {
        let mut layout = Self::default();
        let mounts: Vec<MountLine<'_>> = mounts.lines().filter_map(MountLine::parse).collect();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(names), Some(own)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let controllers: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
            let Some(found) = mounts.iter().find(|mount| mount.is_of(&controllers)) else {
                continue;
            };
            // Of a hierarchy mounted from a subdirectory only what is below it can be reached.
            let own = own.strip_prefix(found.root).unwrap_or(own);
            let mounted = Mounted {
                controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
                mount: PathBuf::from(found.point),
                own: PathBuf::from(own.trim_start_matches('/')),
            };
            if controllers.is_empty() {
                layout.v2 = Some(mounted);
            } else {
                layout.v1.push(mounted);
            }
        }
        layout
    }

    /// Where the container `id` goes: `cgroups_path` from the hierarchies' roots when absolute,
    /// below this process's own cgroup when relative, and there under its id when empty.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that climbs.
    pub fn place(&self, cgroups_path: &str, id: &str) -> Result<Cgroup> {
        let wanted = Path::new(if cgroups_path.is_empty() {
            id
        } else {
            cgroups_path
        });
        let relative: PathBuf = wanted
            .components()
            .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
            .collect();
        if relative
            .components()
            .any(|part| part == Component::ParentDir)
        {
            return Err(Error::invalid("linux.cgroupsPath", "contains \"..\""));
        }
        if relative.as_os_str().is_empty() {
            return Err(Error::invalid(
                "linux.cgroupsPath",
                "is the root of the hierarchy",
            ));
        }
        let below = |mounted: &Mounted| {
            if wanted.is_absolute() {
                mounted.mount.join(&relative)
            } else {
                mounted.mount.join(&mounted.own).join(&relative)
            }
        };
        let hierarchies = self.v1.iter().map(|mounted| Hierarchy {
            controllers: mounted.controllers.clone(),
            mount: mounted.mount.clone(),
            path: below(mounted),
        });
        Ok(Cgroup {
            hierarchies: hierarchies.collect(),
            unified: self.v2.as_ref().map(below),
            unified_mount: self.v2.as_ref().map(|mounted| mounted.mount.clone()),
            unit: None,
            rdt: None,
            above: Vec::new(),
        })
    }

    /// Where systemd puts the container: `cgroups_path` is `slice:prefix:name`.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Systemd`] where the user's manager does not answer.
    pub fn place_unit(&self, cgroups_path: &str, id: &str) -> Result<Cgroup> {
        let user = !nix::unistd::Uid::effective().is_root();
        let unit = Unit::parse(cgroups_path, id, user)?;
        let mut cgroup = self.place(&unit.path()?, id)?;
        cgroup.unit = Some(unit);
        Ok(cgroup)
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).doing(|| format!("read {path}"))
}

/// What matters of a line of mountinfo (proc(5)).
struct MountLine<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> MountLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut filesystem = filesystem.split(' ');
        let (root, point) = (mount.next()?, mount.next()?);
        let kind = filesystem.next()?;
        let options = filesystem.nth(1)?;
        // A root of "/" must not eat the slash that starts an own path.
        let root = if root == "/" { "" } else { root };
        kind.starts_with("cgroup").then_some(Self {
            root,
            point,
            kind,
            options,
        })
    }

    fn is_of(&self, controllers: &[&str]) -> bool {
        if controllers.is_empty() {
            return self.kind == "cgroup2";
        }
        self.kind == "cgroup"
            && controllers
                .iter()
                .all(|name| self.options.split(',').any(|option| option == *name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
24 1 0:5 / /proc rw - proc proc rw
30 2 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 2 0:28 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,name=systemd
32 2 0:29 /outer /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 2 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const HYBRID_GROUPS: &str = "\
3:memory:/outer/inner
2:name=systemd:/user
1:cpu,cpuacct:/
0::/session
";

    #[test]
    fn a_hybrid_machine_gives_one_directory_per_hierarchy() {
        let layout = Layout::parse(HYBRID_MOUNTS, HYBRID_GROUPS);
        let cgroup = layout.place("/pods/one", "id").unwrap();
        assert_eq!(cgroup.hierarchies.len(), 3);
        assert_eq!(
            cgroup.hierarchy("cpu"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/pods/one"))
        );
        assert_eq!(
            cgroup.unified,
            Some(PathBuf::from("/sys/fs/cgroup/unified/pods/one"))
        );
        assert!(!cgroup.is_unified());
    }

    #[test]
    fn without_a_path_the_container_is_below_its_creator() {
        let layout = Layout::parse(HYBRID_MOUNTS, HYBRID_GROUPS);
        let cgroup = layout.place("", "id").unwrap();
        assert_eq!(
            cgroup.hierarchy("memory"),
            Some(Path::new("/sys/fs/cgroup/memory/inner/id"))
        );
        assert_eq!(
            cgroup.hierarchy("cpuacct"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/id"))
        );
        assert_eq!(
            cgroup.unified,
            Some(PathBuf::from("/sys/fs/cgroup/unified/session/id"))
        );
    }

    #[test]
    fn a_path_never_climbs_and_is_never_the_root() {
        let layout = Layout::parse(HYBRID_MOUNTS, HYBRID_GROUPS);
        assert!(layout.place("/../x", "id").is_err());
        assert!(layout.place("a/../../x", "id").is_err());
        assert!(layout.place("/", "id").is_err());
    }

    #[test]
    fn a_version_2_machine_has_one_directory() {
        let mounts = "30 2 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let cgroup = Layout::parse(mounts, "0::/s\n").place("/c", "id").unwrap();
        assert!(cgroup.is_unified());
        assert_eq!(cgroup.unified, Some(PathBuf::from("/sys/fs/cgroup/c")));
    }
}
