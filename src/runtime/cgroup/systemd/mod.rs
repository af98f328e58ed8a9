//! Cgroups that systemd makes: each container is a transient scope. Beside what systemd sets,
//! the files are written as without it, since not every limit is a property.

mod bus;
mod properties;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::cgroup::systemd::bus::Bus;
use crate::error::{Error, Result};
use crate::spec::Resources;

/// A container's unit.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unit {
    /// `PREFIX-NAME.scope`.
    pub name: String,
    /// The slice that it is in, `a-b.slice`.
    pub slice: String,
    /// Whether the user's manager runs it.
    pub user: bool,
    /// Whether it was started.
    pub started: bool,
}

impl Unit {
    /// Reads `slice:prefix:name`; what is empty has a default.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn parse(cgroups_path: &str, id: &str, user: bool) -> Result<Self> {
        let invalid = |reason: &str| {
            let reason = format!("{cgroups_path:?} {reason}");
            Error::invalid("linux.cgroupsPath", reason)
        };
        let text = if cgroups_path.is_empty() {
            format!(":brisk:{id}")
        } else {
            cgroups_path.to_owned()
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(invalid(
                "is not \"slice:prefix:name\", which --systemd-cgroup wants",
            ));
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        if name.is_empty() || name.ends_with(".slice") {
            return Err(invalid("does not name a scope"));
        }
        let name = if prefix.is_empty() {
            format!("{name}.scope")
        } else {
            format!("{prefix}-{name}.scope")
        };
        if name.contains('/') || directory_of(slice).is_none() {
            return Err(invalid("is not the name of a slice and of a scope"));
        }
        Ok(Self {
            name,
            slice: slice.to_owned(),
            user,
            started: false,
        })
    }

    /// Where systemd makes its cgroup.
    ///
    /// # Errors
    /// [`Error::Systemd`] where the user's manager must be asked and does not answer.
    pub fn path(&self) -> Result<String> {
        let above = if self.user {
            Bus::connect(true)?.own_group()?
        } else {
            String::new()
        };
        let slice = directory_of(&self.slice).unwrap_or_default();
        Ok(format!("{above}{slice}/{}", self.name))
    }

    /// Starts it with `pid` in it.
    ///
    /// # Errors
    /// [`Error::Systemd`], [`Error::Invalid`] for an annotation that is no property.
    pub fn start(
        &mut self,
        pid: i32,
        unified: bool,
        resources: &Resources,
        annotations: &BTreeMap<String, String>,
    ) -> Result<()> {
        let mut properties = properties::of_scope(&self.slice, pid, unified);
        properties.extend(properties::of_resources(unified, resources)?);
        properties.extend(properties::of_devices(resources)?);
        properties.extend(properties::of_annotations(annotations)?);
        Bus::connect(self.user)?.start(&self.name, &properties)?;
        self.started = true;
        Ok(())
    }

    /// Tells systemd of changed limits: it would set its own again when it is reloaded.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn change(&self, unified: bool, resources: &Resources) -> Result<()> {
        let mut properties = properties::of_resources(unified, resources)?;
        if !resources.devices.is_empty() {
            properties.extend(properties::of_devices(resources)?);
        }
        if properties.is_empty() {
            return Ok(());
        }
        Bus::connect(self.user)?.change(&self.name, &properties)
    }

    /// Stops it, which kills what is left in it.
    pub fn stop(&self) {
        if self.started
            && let Ok(mut bus) = Bus::connect(self.user)
        {
            let _ = bus.stop(&self.name);
        }
    }
}

impl Cgroup {
    /// Whether the directories may hold what is another's: those of a unit that was not started.
    pub(super) fn is_foreign(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| !unit.started)
    }
}

/// `/a.slice/a-b.slice` of `a-b.slice`; nothing of what is no slice.
fn directory_of(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let mut path = String::new();
    let mut name = String::new();
    for part in stem.split('-') {
        if part.is_empty() || part.contains('/') {
            return None;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        path.push_str(&format!("/{name}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_slice_and_scope() {
        let unit = |path| Unit::parse(path, "id", false);
        for (path, slice, name) in [
            (
                "machine.slice:libpod:abc",
                "machine.slice",
                "libpod-abc.scope",
            ),
            ("a-b.slice::abc", "a-b.slice", "abc.scope"),
            (":p:abc", "system.slice", "p-abc.scope"),
            ("", "system.slice", "brisk-id.scope"),
        ] {
            let unit = unit(path).unwrap();
            assert_eq!((&*unit.slice, &*unit.name), (slice, name), "{path}");
        }
        assert_eq!(Unit::parse("", "id", true).unwrap().slice, "user.slice");
        for path in [
            "/a/b",
            "a.slice:b",
            "x:b:c",
            "a.slice:b:",
            "a.slice:b:c.slice",
            "a.slice:b:c/d",
            "a--b.slice:p:c",
            "a/b.slice:p:c",
        ] {
            let words = unit(path).unwrap_err().to_string();
            assert!(words.contains("linux.cgroupsPath"), "{path}: {words}");
        }
    }

    #[test]
    fn slices_are_nested_by_their_dashes() {
        assert_eq!(
            directory_of("a-b-c.slice").unwrap(),
            "/a.slice/a-b.slice/a-b-c.slice"
        );
        assert_eq!(directory_of("-.slice").unwrap(), "");
        let unit = Unit::parse("a-b.slice:p:c", "id", false).unwrap();
        assert_eq!(unit.path().unwrap(), "/a.slice/a-b.slice/p-c.scope");
    }
}
