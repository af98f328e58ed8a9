//! Which capabilities the container's processes may have.

use crate::error::ContainerError;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};
use std::collections::HashSet;

/// What Docker leaves to a container.
const DEFAULTS: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Every capability, at the place of its number (linux/capability.h).
const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The word for every capability there is.
const ALL: &str = "ALL";

/// Combines the defaults with `--cap-add` and `--cap-drop` as docker does: `ALL` in one
/// list leaves only the other to speak; privileged means all. `available` bounds
/// everything that is not asked for by name.
pub fn choose(
    added: &[String],
    dropped: &[String],
    privileged: bool,
    available: &HashSet<Capability>,
) -> Result<HashSet<Capability>, ContainerError> {
    let add = parse_list("cap-add", added)?;
    let drop = parse_list("cap-drop", dropped)?;
    for (capability, text) in add.named.iter().zip(&add.texts) {
        if !available.contains(capability) {
            return Err(ContainerError::option(
                "cap-add",
                text,
                "this host does not grant brisk that capability, so it cannot pass it on",
            ));
        }
    }
    let kept = |capability: &Capability| {
        available.contains(capability) && !drop.named.contains(capability)
    };
    if privileged {
        return Ok(available.clone());
    }
    if add.all {
        return Ok(available.iter().copied().filter(kept).collect());
    }
    let basis: &[Capability] = if drop.all { &[] } else { &DEFAULTS };
    Ok(basis
        .iter()
        .copied()
        .filter(kept)
        .chain(add.named.iter().copied())
        .collect())
}

/// The sets of a process: an unprivileged user gets the bounding set alone, which is what
/// execve(2) would leave of the others.
pub fn sets(chosen: &HashSet<Capability>, uid: u32) -> LinuxCapabilities {
    let none = Capabilities::new();
    let held = if uid == 0 { chosen } else { &none };
    LinuxCapabilitiesBuilder::default()
        .bounding(chosen.clone())
        .effective(held.clone())
        .permitted(held.clone())
        .inheritable(none.clone())
        .ambient(none)
        .build()
        .expect("every field has a default")
}

/// The capabilities this process can pass on, from its own bounding set (proc(5)).
pub fn available() -> Result<HashSet<Capability>, ContainerError> {
    let path = std::path::Path::new("/proc/self/status");
    let status = std::fs::read_to_string(path).map_err(ContainerError::file("read", path))?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .ok_or_else(|| ContainerError::Damaged {
            path: path.to_path_buf(),
            reason: "it has no CapBnd".to_owned(),
        })?;
    Ok(from_mask(mask))
}

fn from_mask(mask: u64) -> HashSet<Capability> {
    BY_NUMBER
        .iter()
        .enumerate()
        .filter(|(number, _)| mask >> number & 1 == 1)
        .map(|(_, capability)| *capability)
        .collect()
}

#[derive(Debug, Default)]
struct NameList {
    all: bool,
    named: Vec<Capability>,
    texts: Vec<String>,
}

fn parse_list(option: &'static str, names: &[String]) -> Result<NameList, ContainerError> {
    let mut list = NameList::default();
    for text in names.iter().flat_map(|names| names.split(',')) {
        let upper = text.trim().to_ascii_uppercase();
        if upper == ALL {
            list.all = true;
            continue;
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let capability = name
            .parse::<Capability>()
            .map_err(|_| ContainerError::option(option, text, "no such capability"))?;
        list.named.push(capability);
        list.texts.push(text.to_owned());
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> HashSet<Capability> {
        BY_NUMBER.into_iter().collect()
    }

    fn chosen(add: &[&str], drop: &[&str]) -> HashSet<Capability> {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (add, drop): (Vec<String>, Vec<String>) = (strings(add), strings(drop));
        choose(&add, &drop, false, &everything()).unwrap()
    }

    #[test]
    fn numbers_match_the_kernels() {
        assert_eq!(BY_NUMBER[21], Capability::SysAdmin);
        assert_eq!(BY_NUMBER[40], Capability::CheckpointRestore);
        assert_eq!(everything().len(), 41);
        assert_eq!(from_mask(1 << 12), HashSet::from([Capability::NetAdmin]));
    }

    #[test]
    fn combinations() {
        assert_eq!(chosen(&[], &[]), DEFAULTS.into_iter().collect());
        assert!(chosen(&["net_admin"], &[]).contains(&Capability::NetAdmin));
        assert!(chosen(&["CAP_NET_ADMIN"], &[]).contains(&Capability::NetAdmin));
        assert!(!chosen(&[], &["CAP_CHOWN"]).contains(&Capability::Chown));
        assert_eq!(chosen(&[], &["all"]), HashSet::new());
        assert_eq!(
            chosen(&["CHOWN"], &["ALL"]),
            HashSet::from([Capability::Chown])
        );
        assert_eq!(chosen(&["ALL"], &["SYS_ADMIN"]).len(), 40);
    }

    #[test]
    fn privileged_means_all_that_there_is() {
        let few = HashSet::from([Capability::Chown]);
        assert_eq!(choose(&[], &["ALL".to_owned()], true, &few).unwrap(), few);
    }

    #[test]
    fn what_the_host_lacks_is_an_error_only_where_it_was_asked_for() {
        let few = HashSet::from([Capability::Chown]);
        assert_eq!(choose(&[], &[], false, &few).unwrap(), few);
        assert!(choose(&["SYS_ADMIN".to_owned()], &[], false, &few).is_err());
        assert!(choose(&["SYS_ADMIM".to_owned()], &[], false, &everything()).is_err());
    }

    #[test]
    fn other_users_keep_only_the_bounding_set() {
        let sets = sets(&everything(), 1000);
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 41);
        assert!(sets.effective().as_ref().unwrap().is_empty());
        assert!(sets.permitted().as_ref().unwrap().is_empty());
    }
}
