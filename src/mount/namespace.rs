//! The host's mount namespace.
//!
//! Service, keeper and monitors outlive the command that starts them and share mounts, so they
//! all work in one mount namespace, the host's. A command in a private one would else keep that
//! namespace alive with them, and its mounts would be seen by no other command.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Moves this process, which has one thread yet, into the host's mount namespace; the working
/// directory is the root then. True where it has moved.
///
/// It stays where it is when `paths`, which it is to work with, are something else there: a root
/// that only a private namespace has can be used in that namespace only.
///
/// # Errors
/// What the kernel says when it cannot be moved, or moved back.
pub fn enter_host(paths: &[&Path]) -> io::Result<bool> {
    let own = File::open("/proc/self/ns/mnt")?;
    let Some(host) = host_namespace() else {
        return Ok(false);
    };
    if identity(&own.metadata()?) == identity(&host.metadata()?) {
        return Ok(false);
    }
    let known = |path: &&Path| fs::metadata(path).ok().map(|m| identity(&m));
    let before: Vec<_> = paths.iter().map(known).collect();
    let root = File::open("/")?;
    join(&host)?;
    let after: Vec<_> = paths.iter().map(known).collect();
    if before == after && before.iter().all(Option::is_some) {
        return Ok(true);
    }
    join(&own)?;
    // Joining leads to the namespace's root, which need not be where this process was.
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(".")?;
    Ok(false)
}

/// The mount namespace of the first process, or, where that may not be looked at, of the kernel's
/// own threads, which is the one that it was started with.
fn host_namespace() -> Option<File> {
    let is_kernel = || fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n");
    let kernel = || {
        is_kernel()
            .then(|| File::open("/proc/2/ns/mnt").ok())
            .flatten()
    };
    File::open("/proc/1/ns/mnt").ok().or_else(kernel)
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn join(namespace: &File) -> io::Result<()> {
    const CLONE_NEWNS: u64 = 0x0002_0000;
    sys::namespace::join(namespace.as_fd(), CLONE_NEWNS)
}
