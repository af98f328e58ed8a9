//! Cgroups below the container's own, for `exec --cgroup`.

use std::path::{Component, Path, PathBuf};

use crate::cgroup::{Cgroup, files};
use crate::error::{Error, Result};

impl Cgroup {
    /// Moves `pid` in like [`Cgroup::attach`], into those cgroups below that `wanted` names:
    /// `PATH` for all hierarchies, `CONTROLLER[,CONTROLLER...]:PATH` for some of version 1.
    ///
    /// # Errors
    /// [`Error::Usage`] for a path that leads out and for an unknown controller;
    /// [`Error::Invalid`] for one that is not there.
    pub fn attach_below(&self, pid: i32, wanted: &[String]) -> Result<()> {
        self.attach(pid)?;
        for text in wanted {
            for directory in self.directories_below(text)? {
                let joined = files::write(&directory, "cgroup.procs", &pid.to_string());
                joined.map_err(|error| {
                    let file = directory.join("cgroup.procs");
                    let reason = match std::fs::exists(&file) {
                        Ok(false) => format!("{}: no such file or directory", file.display()),
                        _ => error.to_string(),
                    };
                    Error::invalid(
                        "--cgroup",
                        format!("error adding pid {pid} to cgroups: {reason}"),
                    )
                })?;
            }
        }
        Ok(())
    }

    fn directories_below(&self, text: &str) -> Result<Vec<PathBuf>> {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None => (None, text),
        };
        let path = Path::new(path);
        if path.components().any(|part| part == Component::ParentDir) {
            let reason = format!("--cgroup: {} is not a sub cgroup path", path.display());
            return Err(Error::Usage(reason));
        }
        let below = path.strip_prefix("/").unwrap_or(path);
        let Some(controllers) = controllers else {
            return Ok(self
                .directories()
                .map(|directory| directory.join(below))
                .collect());
        };
        let one = |name: &str| {
            let found = self.hierarchy(name);
            let found = found.ok_or_else(|| Error::Usage(format!("unknown controller {name}")))?;
            Ok(found.join(below))
        };
        controllers.split(',').map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hierarchy;

    #[test]
    fn paths_stay_below_and_controllers_are_known() {
        let hierarchy = |name: &str| Hierarchy {
            controllers: vec![name.to_owned()],
            mount: PathBuf::from("/m"),
            path: Path::new("/m").join(name).join("c"),
        };
        let cgroup = Cgroup {
            hierarchies: vec![hierarchy("cpu"), hierarchy("memory")],
            ..Cgroup::default()
        };
        let below = |text| cgroup.directories_below(text);
        assert_eq!(below("a").unwrap().len(), 2);
        let one = below("memory:/a/b").unwrap();
        assert_eq!(one, [PathBuf::from("/m/memory/c/a/b")]);
        assert!(below("..").is_err() && below("cpu:a/../..").is_err() && below("nope:a").is_err());
    }
}
