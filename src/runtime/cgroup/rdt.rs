//! `linux.intelRdt`: a share of caches and of memory bandwidth by the resctrl filesystem of the
//! kernel's `Documentation/filesystems/resctrl.rst`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::files;
use crate::error::{Context, Error, Result};
use crate::spec::IntelRdt;

const SCHEMATA: &str = "schemata";

/// The group that a container's processes are in.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RdtGroup {
    /// Its directory.
    path: PathBuf,
    /// Whether it was made for the container, and goes with it.
    made: bool,
    /// The directory that counts for this container alone, where that is asked for.
    monitor: Option<PathBuf>,
}

impl RdtGroup {
    /// Makes the group that `wanted` describes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where resctrl is not mounted; [`Error::Invalid`] for a group that is
    /// not there or is another's with other shares; [`Error::Os`].
    pub fn prepare(id: &str, wanted: &IntelRdt) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")
            .doing(|| "read /proc/self/mountinfo")?;
        let Some(root) = mounted(&mounts) else {
            let reason = "resctrl is not mounted; mount -t resctrl resctrl /sys/fs/resctrl on a \
                          machine that has it";
            return Err(Error::unsupported("linux.intelRdt", reason));
        };
        Self::prepare_in(root, id, wanted)
    }

    fn prepare_in(root: &Path, id: &str, wanted: &IntelRdt) -> Result<Self> {
        let name = wanted.clos_id.as_deref().unwrap_or(id);
        let path = if name == "/" {
            root.to_owned()
        } else {
            check_name(name)?;
            root.join(name)
        };
        let schemata = schemata(wanted);
        let exists = path.is_dir();
        if exists && wanted.clos_id.is_none() {
            let reason = format!("{} is there already", path.display());
            return Err(Error::invalid("linux.intelRdt", reason));
        }
        if !exists && wanted.clos_id.is_some() && schemata.is_empty() {
            let reason = format!("{name:?} is not there, and no schemata say what it would be");
            return Err(Error::invalid("linux.intelRdt.closID", reason));
        }
        if exists {
            check_same(&path, &schemata)?;
        } else {
            std::fs::create_dir(&path).doing(|| format!("make {}", path.display()))?;
        }
        let mut group = Self {
            path,
            made: !exists,
            monitor: None,
        };
        let filled = group.fill(id, wanted, &schemata);
        if filled.is_err() {
            group.remove();
        }
        filled.map(|()| group)
    }

    fn fill(&mut self, id: &str, wanted: &IntelRdt, schemata: &[String]) -> Result<()> {
        if self.made {
            self.share(schemata)?;
        }
        if wanted.enable_monitoring || wanted.enable_cmt || wanted.enable_mbm {
            let monitor = self.path.join("mon_groups").join(id);
            match std::fs::create_dir(&monitor) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let reason = "this kernel or processor does not monitor";
                    return Err(Error::unsupported(
                        "linux.intelRdt.enableMonitoring",
                        reason,
                    ));
                }
                other => other.doing(|| format!("make {}", monitor.display()))?,
            }
            self.monitor = Some(monitor);
        }
        Ok(())
    }

    /// Writes `schemata`, line by line in one write.
    fn share(&self, schemata: &[String]) -> Result<()> {
        if schemata.is_empty() {
            return Ok(());
        }
        let text = schemata.join("\n") + "\n";
        files::write_limit(&self.path, "linux.intelRdt.schemata", SCHEMATA, &text)
    }

    /// Takes a process in; its children follow.
    ///
    /// # Errors
    /// [`Error::Os`] naming the file.
    pub fn admit(&self, pid: i32) -> Result<()> {
        files::write(&self.path, "tasks", &pid.to_string())?;
        match &self.monitor {
            Some(monitor) => files::write(monitor, "tasks", &pid.to_string()),
            None => Ok(()),
        }
    }

    /// Changes the shares, as `update` asks. The one who shares the group is not asked.
    ///
    /// # Errors
    /// [`Error::Os`] naming the file.
    pub fn change(&self, wanted: &IntelRdt) -> Result<()> {
        self.share(&schemata(wanted))
    }

    /// The lines of the group's shares that begin with `L3` or with `MB`.
    pub fn shares(&self, of: &str) -> String {
        let text = files::read(&self.path, SCHEMATA).unwrap_or_default();
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(of));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Removes what was made.
    pub fn remove(&self) {
        if let Some(monitor) = &self.monitor {
            let _ = std::fs::remove_dir(monitor);
        }
        if self.made {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// Where resctrl is mounted.
fn mounted(mounts: &str) -> Option<&Path> {
    let line = mounts.lines().find(|line| line.contains(" - resctrl "))?;
    line.split(' ').nth(4).map(Path::new)
}

fn check_name(name: &str) -> Result<()> {
    let taken = ["", ".", "..", "info", "mon_groups", "mon_data"].contains(&name);
    if taken || name.contains(['/', '\n']) {
        return Err(Error::invalid("linux.intelRdt.closID", format!("{name:?}")));
    }
    Ok(())
}

/// All lines to write. Bandwidth among the cache's lines gives way to bandwidth of its own.
fn schemata(wanted: &IntelRdt) -> Vec<String> {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    };
    let mut all = lines(&wanted.l3_cache_schema);
    if !wanted.mem_bw_schema.is_empty() {
        all.retain(|line| !line.starts_with("MB:"));
        all.extend(lines(&wanted.mem_bw_schema));
    }
    all.extend(wanted.schemata.iter().flat_map(|text| lines(text)));
    all
}

/// `L3:0=00f;1=ff` as resource, and value by domain without leading zeros.
fn parse(line: &str) -> Option<(&str, BTreeMap<&str, &str>)> {
    let (resource, domains) = line.trim().split_once(':')?;
    let domains = domains.split(';').map(|domain| {
        let (id, value) = domain.split_once('=')?;
        Some((id.trim(), value.trim().trim_start_matches('0')))
    });
    Some((resource.trim(), domains.collect::<Option<_>>()?))
}

/// A group that others use keeps its shares, so those asked for must be those.
fn check_same(path: &Path, wanted: &[String]) -> Result<()> {
    let there = files::read(path, SCHEMATA)?;
    for line in wanted {
        let differs = || {
            let reason = format!("{line:?} is not what {} has", path.join(SCHEMATA).display());
            Error::invalid("linux.intelRdt.schemata", reason)
        };
        let (resource, domains) = parse(line).ok_or_else(differs)?;
        let mut same = there
            .lines()
            .filter_map(parse)
            .filter(|(of, _)| *of == resource);
        let now = same.next().ok_or_else(differs)?.1;
        if domains.iter().any(|(id, value)| now.get(id) != Some(value)) {
            return Err(differs());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(clos: Option<&str>, l3: &str, bandwidth: &str) -> IntelRdt {
        IntelRdt {
            clos_id: clos.map(str::to_owned),
            l3_cache_schema: l3.to_owned(),
            mem_bw_schema: bandwidth.to_owned(),
            ..IntelRdt::default()
        }
    }

    /// A group as the kernel would have filled it.
    fn group(root: &Path, name: &str, schemata: &str) -> PathBuf {
        let path = root.join(name);
        std::fs::create_dir_all(path.join("mon_groups")).unwrap();
        std::fs::write(path.join(SCHEMATA), schemata).unwrap();
        std::fs::write(path.join("tasks"), "").unwrap();
        path
    }

    #[test]
    fn lines_are_gathered_and_bandwidth_of_its_own_counts() {
        let mut all = wanted(None, "L3:0=f\nMB:0=10", "MB:0=50");
        all.schemata = vec!["L2:0=3".into()];
        assert_eq!(schemata(&all), ["L3:0=f", "MB:0=50", "L2:0=3"]);
    }

    #[test]
    fn a_group_that_is_there_is_joined_when_it_is_the_same() {
        let root = tempfile::tempdir().unwrap();
        let path = group(
            root.path(),
            "gold",
            "    L3:0=00ff;1=0f\n    MB:0=100;1=100\n",
        );
        let join = |l3| RdtGroup::prepare_in(root.path(), "id", &wanted(Some("gold"), l3, ""));
        for same in ["", "L3:0=ff", "L3:1=f;0=0ff"] {
            let joined = join(same).unwrap();
            joined.admit(77).unwrap();
            joined.remove();
        }
        assert_eq!(std::fs::read_to_string(path.join("tasks")).unwrap(), "77");
        assert!(path.exists(), "it was another's");
        for other in ["L3:0=f", "L3:2=ff", "L2:0=ff", "nonsense"] {
            let words = join(other).unwrap_err().to_string();
            assert!(words.contains("linux.intelRdt.schemata"), "{words}");
        }
        assert!(RdtGroup::prepare_in(root.path(), "gold", &wanted(None, "", "")).is_err());
    }

    #[test]
    fn a_container_may_be_counted_alone_in_a_group_of_several() {
        let root = tempfile::tempdir().unwrap();
        let path = group(root.path(), "gold", "L3:0=f\n");
        let mut monitored = wanted(Some("gold"), "", "");
        monitored.enable_monitoring = true;
        let joined = RdtGroup::prepare_in(root.path(), "id", &monitored).unwrap();
        let monitor = path.join("mon_groups/id");
        std::fs::write(monitor.join("tasks"), "").unwrap();
        joined.admit(77).unwrap();
        assert_eq!(
            std::fs::read_to_string(monitor.join("tasks")).unwrap(),
            "77"
        );
        std::fs::remove_file(monitor.join("tasks")).unwrap();
        joined.remove();
        assert!(!monitor.exists() && path.exists());
    }

    #[test]
    fn what_cannot_be_made_is_named_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let prepare = |wanted: &IntelRdt| RdtGroup::prepare_in(root.path(), "id", wanted);
        for bad in ["..", "a/b", "info", ""] {
            let words = prepare(&wanted(Some(bad), "L3:0=f", "")).unwrap_err();
            assert!(
                words.to_string().contains("linux.intelRdt.closID"),
                "{words}"
            );
        }
        assert!(prepare(&wanted(Some("silver"), "", "")).is_err());
        // A directory that is no resctrl has no file of shares.
        let words = prepare(&wanted(None, "L3:0=f", ""))
            .unwrap_err()
            .to_string();
        assert!(words.contains("schemata"), "{words}");
        assert!(!root.path().join("id").exists());
        let made = prepare(&wanted(None, "", "")).unwrap();
        assert!(root.path().join("id").exists());
        made.remove();
        assert!(!root.path().join("id").exists());
    }

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let line = "40 30 0:9 / /sys/fs/resctrl rw - resctrl resctrl rw\n";
        assert_eq!(mounted(line), Some(Path::new("/sys/fs/resctrl")));
        assert_eq!(mounted("40 30 0:9 / /proc rw - proc proc rw\n"), None);
    }
}
