//! Which devices the container sees and may use.

use crate::error::ContainerError;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};
use rustix::fs::{major, minor};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Devices listed for a privileged container at most: a limit against a runaway /dev.
const MAX_HOST_DEVICES: usize = 8192;
/// Depth below /dev that is searched: /dev/disk/by-id is made of links, which do not count.
const MAX_DEPTH: u32 = 8;
/// What each container has of its own in /dev and must not get from the host.
const OWN: [&str; 5] = ["pts", "shm", "mqueue", "console", "ptmx"];

/// (type, major, minor, access) that every container may use; none stands for all.
/// Any device may be made (mknod), few be opened: null, zero, full, random, urandom, tty,
/// console, ptmx and the terminals of devpts.
const ALLOWED: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 11] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(1), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
];

/// The rules of the devices cgroup, in their order.
pub fn rules(privileged: bool) -> Vec<LinuxDeviceCgroup> {
    let rule = |allow: bool, access: &str| {
        LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .access(access.to_owned())
    };
    let built =
        |builder: LinuxDeviceCgroupBuilder| builder.build().expect("every field has a default");
    if privileged {
        return vec![built(rule(true, "rwm").typ(LinuxDeviceType::A))];
    }
    let mut rules = vec![built(rule(false, "rwm").typ(LinuxDeviceType::A))];
    for (kind, major, minor, access) in ALLOWED {
        let mut builder = rule(true, access).typ(kind);
        if let Some(major) = major {
            builder = builder.major(major);
        }
        if let Some(minor) = minor {
            builder = builder.minor(minor);
        }
        rules.push(built(builder));
    }
    rules
}

/// The device nodes of the host's /dev, for a privileged container. The ordinary ones
/// (null, zero, …) are made by every OCI runtime by itself.
pub fn of_host() -> Result<Vec<LinuxDevice>, ContainerError> {
    let mut devices = Vec::new();
    collect(Path::new("/dev"), MAX_DEPTH, &mut devices)?;
    devices.sort_by(|a: &LinuxDevice, b: &LinuxDevice| a.path().cmp(b.path()));
    Ok(devices)
}

fn collect(
    directory: &Path,
    depth: u32,
    devices: &mut Vec<LinuxDevice>,
) -> Result<(), ContainerError> {
    let failed = ContainerError::file("list", directory);
    for entry in std::fs::read_dir(directory).map_err(failed)?.flatten() {
        if directory == Path::new("/dev") && OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        // A device that goes away meanwhile is not there.
        let Ok(metadata) = std::fs::symlink_metadata(entry.path()) else {
            continue;
        };
        let kind = metadata.file_type();
        if kind.is_dir() && depth > 0 {
            collect(&entry.path(), depth - 1, devices)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            if devices.len() >= MAX_HOST_DEVICES {
                break;
            }
            let typ = if kind.is_block_device() {
                LinuxDeviceType::B
            } else {
                LinuxDeviceType::C
            };
            let device = LinuxDeviceBuilder::default()
                .path(entry.path())
                .typ(typ)
                .major(i64::from(major(metadata.rdev())))
                .minor(i64::from(minor(metadata.rdev())))
                .file_mode(metadata.mode() & 0o7777)
                .uid(metadata.uid())
                .gid(metadata.gid())
                .build()
                .expect("every field has a default");
            devices.push(device);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_denied_first() {
        let rules = rules(false);
        assert_eq!(rules[0].to_string(), "a *:* rwm");
        assert!(!rules[0].allow());
        assert!(rules[1..].iter().all(LinuxDeviceCgroup::allow));
        assert!(rules.iter().any(|rule| rule.to_string() == "c 1:3 rwm"));
        assert!(
            !rules[1..]
                .iter()
                .any(|rule| rule.to_string() == "a *:* rwm")
        );
    }

    #[test]
    fn the_hosts_devices_hold_null_and_no_terminals() {
        let devices = of_host().unwrap();
        let null = devices
            .iter()
            .find(|device| device.path() == Path::new("/dev/null"))
            .unwrap();
        assert_eq!((null.major(), null.minor()), (1, 3));
        assert!(
            !devices
                .iter()
                .any(|device| device.path().starts_with("/dev/pts"))
        );
    }
}
