//! The file systems of a container beside its root.

use crate::error::ContainerError;
use crate::options::RunOptions;
use crate::rootfs::{Rootfs, normalise};
use oci_spec::runtime::{Mount, MountBuilder};
use std::path::{Path, PathBuf};

/// (destination, type, source, options) of every container, in the order they are mounted:
/// Docker's.
const DEFAULTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        // Group 5 is tty in every distribution.
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ],
    ),
    (
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ),
    (
        "/dev/shm",
        "tmpfs",
        "shm",
        &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    ),
    (
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    ),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    ),
];

/// Hidden from the container (Docker's): they tell of the host or let it be changed.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Readable and not writable (Docker's).
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Everything to mount: the defaults, the volumes of image and user, the identity files.
/// What the user asks for takes the place of a default with the same destination.
pub fn mounts(
    options: &RunOptions,
    image_volumes: &[PathBuf],
    identity: &[(PathBuf, PathBuf)],
    rootfs: &Rootfs,
) -> Result<Vec<Mount>, ContainerError> {
    let mut extra: Vec<Mount> = Vec::new();
    for bind in &options.binds {
        let access = if bind.read_only { "ro" } else { "rw" };
        extra.push(bind_mount(
            &bind.source,
            &bind.destination,
            &[&bind.propagation, access],
        ));
    }
    for tmpfs in &options.tmpfs {
        let options: Vec<&str> = tmpfs.options.iter().map(String::as_str).collect();
        extra.push(mount(
            &tmpfs.destination,
            "tmpfs",
            Path::new("tmpfs"),
            &options,
        ));
    }
    for (source, destination) in identity {
        if !covers(&extra, destination) {
            extra.push(bind_mount(source, destination, &["rprivate", "rw"]));
        }
    }
    // A volume lies in the container's own upper, so it starts with the image's content
    // and goes with the container. Under a read-only root it must stay writable: the same
    // directory is mounted over itself.
    for volume in image_volumes.iter().chain(&options.anonymous_volumes) {
        let volume = normalise(volume);
        if volume == Path::new("/") || covers(&extra, &volume) {
            continue;
        }
        rootfs.create_directories(&volume)?;
        if options.read_only {
            let source = rootfs.host_path(&volume)?;
            extra.push(bind_mount(&source, &volume, &["rprivate", "rw"]));
        }
    }
    let mut all: Vec<Mount> = DEFAULTS
        .iter()
        .filter(|(destination, ..)| !covers(&extra, Path::new(destination)))
        .map(|(destination, kind, source, flags)| {
            let flags: Vec<&str> = flags
                .iter()
                .copied()
                .filter(|flag| !(options.privileged && *flag == "ro"))
                .collect();
            mount(Path::new(destination), kind, Path::new(source), &flags)
        })
        .collect();
    // Parents before what lies in them; the order given decides among equals.
    extra.sort_by_key(|mount| mount.destination().components().count());
    all.extend(extra);
    Ok(all)
}

/// Whether one of `mounts` is at `destination` itself.
fn covers(mounts: &[Mount], destination: &Path) -> bool {
    mounts
        .iter()
        .any(|mount| mount.destination() == destination)
}

fn bind_mount(source: &Path, destination: &Path, options: &[&str]) -> Mount {
    let options: Vec<&str> = std::iter::once("rbind")
        .chain(options.iter().copied())
        .collect();
    mount(destination, "bind", source, &options)
}

fn mount(destination: &Path, kind: &str, source: &Path, options: &[&str]) -> Mount {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(
            options
                .iter()
                .map(|option| (*option).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()
        .expect("every field has a default")
}

/// Creates the host directories of `-v` that do not exist yet, as docker does.
pub fn create_sources(options: &RunOptions) -> Result<(), ContainerError> {
    for bind in &options.binds {
        match std::fs::create_dir_all(&bind.source) {
            // A file is shown as a file.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => result.map_err(ContainerError::file("create", &bind.source))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Bind, Tmpfs};

    fn bind(source: &str, destination: &str) -> Bind {
        Bind {
            source: source.into(),
            destination: destination.into(),
            read_only: false,
            propagation: "rprivate".to_owned(),
        }
    }

    fn destinations(mounts: &[Mount]) -> Vec<String> {
        mounts
            .iter()
            .map(|mount| mount.destination().display().to_string())
            .collect()
    }

    #[test]
    fn users_mounts_replace_defaults_and_parents_come_first() {
        let tree = tempfile::tempdir().unwrap();
        let rootfs = Rootfs::open(tree.path()).unwrap();
        let options = RunOptions {
            binds: vec![
                bind("/b", "/data/deep"),
                bind("/a", "/data"),
                bind("/h", "/etc/hosts"),
            ],
            tmpfs: vec![Tmpfs {
                destination: "/dev/shm".into(),
                options: Vec::new(),
            }],
            ..RunOptions::default()
        };
        let identity = [("/x/hosts".into(), "/etc/hosts".into())];
        let mounts = mounts(&options, &[], &identity, &rootfs).unwrap();
        let order = destinations(&mounts);
        let place = |name: &str| order.iter().position(|other| other == name).unwrap();
        assert!(place("/data") < place("/data/deep"));
        for once in ["/etc/hosts", "/dev/shm"] {
            assert_eq!(
                order.iter().filter(|name| *name == once).count(),
                1,
                "{once}"
            );
        }
        let hosts = &mounts[place("/etc/hosts")];
        assert_eq!(hosts.source().as_deref(), Some(Path::new("/h")));
        assert_eq!(order.len(), DEFAULTS.len() + 3);
    }

    #[test]
    fn volumes_exist_and_stay_writable_under_a_read_only_root() {
        let tree = tempfile::tempdir().unwrap();
        let rootfs = Rootfs::open(tree.path()).unwrap();
        let mut options = RunOptions::default();
        let volumes = [PathBuf::from("/var/data")];
        let plain = mounts(&options, &volumes, &[], &rootfs).unwrap();
        assert!(tree.path().join("var/data").is_dir());
        assert_eq!(plain.len(), DEFAULTS.len());
        options.read_only = true;
        let with = mounts(&options, &volumes, &[], &rootfs).unwrap();
        let volume = with.last().unwrap();
        assert_eq!(
            volume.source().as_deref(),
            Some(tree.path().join("var/data").as_path())
        );
    }

    #[test]
    fn privileged_may_write_to_sys() {
        let tree = tempfile::tempdir().unwrap();
        let rootfs = Rootfs::open(tree.path()).unwrap();
        let options = RunOptions {
            privileged: true,
            ..RunOptions::default()
        };
        let mounts = mounts(&options, &[], &[], &rootfs).unwrap();
        assert!(mounts.iter().all(|mount| {
            !mount
                .options()
                .as_ref()
                .unwrap()
                .iter()
                .any(|option| option == "ro")
        }));
    }
}
