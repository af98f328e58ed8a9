//! Applying device rules: by the controller of version 1 where it is mounted, else by a program
//! attached to the cgroup2 directory.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::cgroup::device_rules::{self, Policy, Rule, line};
use crate::cgroup::{Cgroup, device_program, files};
use crate::error::{Context, Error, Result};
use crate::spec::DeviceRule;

/// Applies the rules, in the place of those that were applied before.
///
/// # Errors
/// [`Error::Unsupported`] where the rules forbid something and nothing here can;
/// [`Error::Invalid`]; [`Error::Os`] naming the file.
pub fn apply(cgroup: &Cgroup, rules: &[DeviceRule]) -> Result<()> {
    let rules = device_rules::parse(rules)?;
    if let Some(path) = cgroup.hierarchy("devices") {
        return write_policy(path, &Policy::of(&rules)?);
    }
    match cgroup.unified.as_deref() {
        Some(path) => attach_program(path, &rules),
        None if is_unrestricted(&rules) => Ok(()),
        None => {
            let reason = "no hierarchy that can restrict devices is mounted or writable; allow \
                          all devices to go on without";
            Err(Error::unsupported("linux.resources.devices", reason))
        }
    }
}

/// Whether the last rule for everything allows it and nothing is denied after it.
fn is_unrestricted(rules: &[Rule]) -> bool {
    let since = rules.iter().rposition(Rule::is_for_all);
    since.is_some_and(|at| rules[at..].iter().all(|rule| rule.allow))
}

/// Changes the controller from what it holds to `wanted`, without a moment in which a device
/// that was and will be allowed is denied.
fn write_policy(path: &Path, wanted: &Policy) -> Result<()> {
    let mut now = Policy::read(&files::read(path, "devices.list")?);
    if now.allows || wanted.allows {
        // Exceptions from "all" cannot be read back, so what is there is replaced.
        let file = if wanted.allows {
            "devices.allow"
        } else {
            "devices.deny"
        };
        files::write(path, file, "a")?;
        now = Policy {
            allows: wanted.allows,
            ..Policy::default()
        };
    }
    let (add, remove) = if wanted.allows {
        ("devices.deny", "devices.allow")
    } else {
        ("devices.allow", "devices.deny")
    };
    for (&devices, &access) in &wanted.exceptions {
        let missing = access & !now.exceptions.get(&devices).copied().unwrap_or(0);
        if missing != 0 {
            files::write(path, add, &line(devices, missing))?;
        }
    }
    for (&devices, &access) in &now.exceptions {
        let stale = access & !wanted.exceptions.get(&devices).copied().unwrap_or(0);
        if stale != 0 {
            files::write(path, remove, &line(devices, stale))?;
        }
    }
    Ok(())
}

/// Attaches the rules' program, then detaches those that were there: in between both hold.
fn attach_program(path: &Path, rules: &[Rule]) -> Result<()> {
    let action = || format!("restrict devices in {}", path.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).doing(action)?;
    let unrestricted = is_unrestricted(rules);
    let earlier = match sys::bpf::device_programs(directory.as_fd()) {
        // Who may not ask has not attached any either.
        Err(_) if unrestricted => return Ok(()),
        other => other.doing(action)?,
    };
    if !unrestricted {
        let program = sys::bpf::load_device_program(&device_program::compile(rules));
        let program = program.doing(|| "load the program for linux.resources.devices")?;
        // Replacing is one step, where there is one to replace.
        let replaced = (earlier.len() == 1).then(|| earlier[0].as_fd());
        sys::bpf::attach_device_program(directory.as_fd(), program.as_fd(), replaced)
            .doing(action)?;
        if replaced.is_some() {
            return Ok(());
        }
    }
    for program in earlier {
        sys::bpf::detach_device_program(directory.as_fd(), program.as_fd()).doing(action)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::{Tree, rule};

    #[test]
    fn a_policy_that_holds_already_is_not_written_again() {
        let tree = Tree::v1(&["devices"]);
        let rules = [rule(true, "c", 10, 200, "rw")];
        let policy = Policy::of(&device_rules::parse(&rules).unwrap()).unwrap();
        let list: String = policy
            .exceptions
            .iter()
            .map(|(&devices, &access)| line(devices, access) + "\n")
            .collect();
        tree.put("devices", "devices.list", &list);
        // Neither file to write to is there.
        apply(&tree.cgroup, &rules).unwrap();
        tree.put("devices", "devices.allow", "");
        tree.put("devices", "devices.deny", "");
        apply(&tree.cgroup, &[rule(true, "c", 10, 200, "rm")]).unwrap();
        assert_eq!(tree.get("devices", "devices.allow"), "c 10:200 m");
        assert_eq!(tree.get("devices", "devices.deny"), "c 10:200 w");
    }

    #[test]
    fn without_a_hierarchy_only_no_restriction_will_do() {
        let cgroup = Cgroup::default();
        assert!(apply(&cgroup, &[rule(true, "a", -1, -1, "rwm")]).is_ok());
        let words = apply(&cgroup, &[]).unwrap_err().to_string();
        assert!(words.contains("linux.resources.devices"), "{words}");
    }
}
