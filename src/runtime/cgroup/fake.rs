//! Directories that stand for cgroups, for tests of what is written where.

use crate::spec::DeviceRule;
use std::path::PathBuf;

use crate::cgroup::{Cgroup, Hierarchy};

/// A container's cgroup in a temporary directory.
pub struct Tree {
    directory: tempfile::TempDir,
    /// The cgroup, whose directories are there and empty.
    pub cgroup: Cgroup,
}

impl Tree {
    /// One hierarchy of version 1 per controller.
    pub fn v1(controllers: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hierarchies = controllers.iter().map(|&name| {
            let mount = directory.path().join(name);
            let path = mount.join("container");
            std::fs::create_dir_all(&path).unwrap();
            Hierarchy {
                controllers: vec![name.to_owned()],
                mount,
                path,
            }
        });
        let cgroup = Cgroup {
            hierarchies: hierarchies.collect(),
            ..Cgroup::default()
        };
        Self { directory, cgroup }
    }

    /// The tree of version 2 alone.
    pub fn v2() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mount = directory.path().join("unified");
        let path = mount.join("container");
        std::fs::create_dir_all(&path).unwrap();
        let cgroup = Cgroup {
            unified: Some(path),
            unified_mount: Some(mount),
            ..Cgroup::default()
        };
        Self { directory, cgroup }
    }

    fn path(&self, hierarchy: &str, name: &str) -> PathBuf {
        self.directory
            .path()
            .join(hierarchy)
            .join("container")
            .join(name)
    }

    /// Makes a file of the container's directory.
    pub fn put(&self, hierarchy: &str, name: &str, text: &str) {
        std::fs::write(self.path(hierarchy, name), text).unwrap();
    }

    /// Makes empty files, to be written to.
    pub fn touch(&self, hierarchy: &str, names: &[&str]) {
        for name in names {
            self.put(hierarchy, name, "");
        }
    }

    /// What is in one.
    pub fn get(&self, hierarchy: &str, name: &str) -> String {
        std::fs::read_to_string(self.path(hierarchy, name)).unwrap()
    }
}

/// A device rule with both numbers.
pub fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        kind: kind.into(),
        major: Some(major),
        minor: Some(minor),
        access: access.into(),
    }
}
