//! Maps of user and group ids of a new user namespace.

use std::process::Command;

use nix::unistd::{Gid, Uid, setresgid, setresuid};

use crate::error::{Context, Error, Result};
use crate::rootfs::map_lines;
use crate::spec::{IdMapping, Linux};

/// Writes both maps of process `pid`. What the kernel does not allow an ordinary user to write,
/// newuidmap(1) and newgidmap(1) do, as far as `/etc/subuid` and `/etc/subgid` allow it.
///
/// # Errors
/// [`Error`] naming the property.
pub fn write(pid: i32, linux: &Linux) -> Result<()> {
    let ordinary = !rustix::process::geteuid().is_root();
    if ordinary && !is_own(&linux.uid_mappings, rustix::process::geteuid().as_raw()) {
        by_program("newuidmap", pid, "linux.uidMappings", &linux.uid_mappings)?;
    } else {
        write_file(pid, "uid_map", "linux.uidMappings", &linux.uid_mappings)?;
    }
    if ordinary && !is_own(&linux.gid_mappings, rustix::process::getegid().as_raw()) {
        return by_program("newgidmap", pid, "linux.gidMappings", &linux.gid_mappings);
    }
    if ordinary {
        // Without it the process could leave a group that keeps it from something.
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny")
            .doing(|| "deny setgroups to the user namespace")?;
    }
    write_file(pid, "gid_map", "linux.gidMappings", &linux.gid_mappings)
}

/// Whether it is the one id of the caller alone, which everybody may map.
fn is_own(mappings: &[IdMapping], id: u32) -> bool {
    matches!(mappings, [one] if one.host_id == id && one.size == 1)
}

fn write_file(pid: i32, name: &str, field: &str, mappings: &[IdMapping]) -> Result<()> {
    std::fs::write(format!("/proc/{pid}/{name}"), map_lines(mappings))
        .doing(|| format!("write {field} to {name}"))
}

fn by_program(program: &str, pid: i32, field: &str, mappings: &[IdMapping]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for map in mappings {
        command.args([map.container_id, map.host_id, map.size].map(|number| number.to_string()));
    }
    let failed = |reason: String| Error::invalid(field, reason);
    let output = command.output().map_err(|error| {
        failed(format!(
            "an ordinary user needs {program} (Debian: uidmap): {error}"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(format!("{program}: {words}")))
}

/// User 0 of the new user namespace: the maps are written, but the process still has the
/// unmapped ids that it was born with. A namespace without user 0 leaves it so.
///
/// # Errors
/// [`Error::Os`].
pub fn become_root() -> Result<()> {
    let unless_unmapped = |result: nix::Result<()>| match result {
        Err(nix::errno::Errno::EINVAL) => Ok(()),
        other => other,
    };
    let (gid, uid) = (Gid::from_raw(0), Uid::from_raw(0));
    unless_unmapped(setresgid(gid, gid, gid)).doing(|| "become group 0 of the user namespace")?;
    unless_unmapped(setresuid(uid, uid, uid)).doing(|| "become user 0 of the user namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_id_alone_is_written_without_help() {
        let map = |host_id, size| IdMapping {
            container_id: 0,
            host_id,
            size,
        };
        assert!(is_own(&[map(1000, 1)], 1000));
        assert!(!is_own(&[map(1001, 1)], 1000));
        assert!(!is_own(&[map(1000, 2)], 1000));
        assert!(!is_own(&[map(1000, 1), map(100_000, 10)], 1000));
    }
}
