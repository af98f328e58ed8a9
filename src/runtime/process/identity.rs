//! User, groups, working directory.

use nix::unistd::{Gid, Uid};
use rustix::fs::Mode;

use crate::defence::Defence;
use crate::error::{Context, Error, Result};
use crate::spec::User;

/// Umask where the specification gives none, as runc.
const DEFAULT_UMASK: u32 = 0o022;

/// Takes on user and groups. Capabilities survive the change until they are set.
///
/// # Errors
/// [`Error::Os`].
pub fn become_user(user: &User) -> Result<()> {
    rustix::process::umask(Mode::from_raw_mode(
        user.umask.unwrap_or(DEFAULT_UMASK) & 0o777,
    ));
    own_standard_streams(user.uid);
    rustix::thread::set_keep_capabilities(true).doing(|| "keep capabilities")?;
    let groups: Vec<Gid> = user
        .additional_gids
        .iter()
        .map(|&gid| Gid::from_raw(gid))
        .collect();
    match nix::unistd::setgroups(&groups) {
        // A user namespace may forbid it, which matters only where groups are asked for.
        Err(nix::errno::Errno::EPERM) if groups.is_empty() => {}
        other => other.doing(|| "set additional groups")?,
    }
    let gid = Gid::from_raw(user.gid);
    nix::unistd::setresgid(gid, gid, gid).doing(|| format!("become group {}", user.gid))?;
    let uid = Uid::from_raw(user.uid);
    nix::unistd::setresuid(uid, uid, uid).doing(|| format!("become user {}", user.uid))?;
    rustix::thread::set_keep_capabilities(false).doing(|| "stop keeping capabilities")
}

/// The program must be able to reopen its standard streams through /proc/self/fd. Where that
/// cannot be arranged (a read-only filesystem, a user that is not mapped) it does without.
fn own_standard_streams(uid: u32) {
    let null = rustix::fs::makedev(1, 3);
    for stream in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let Ok(found) = rustix::fs::fstat(stream) else {
            continue;
        };
        if found.st_uid != uid && found.st_rdev != null {
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    }
}

/// Enters the working directory and proves that it is inside the root: one reached through a
/// descriptor of the host's tree would not be.
///
/// # Errors
/// [`Error::Os`], [`Error::Invalid`].
pub fn change_directory(path: &str) -> Result<()> {
    rustix::process::chdir(path).doing(|| format!("chdir to cwd ({path:?})"))?;
    if !Defence::WorkInside.is_on() {
        return Ok(());
    }
    let outside = || Error::invalid("process.cwd", "is outside the container's root");
    match rustix::process::getcwd(Vec::new()) {
        // The kernel marks an unreachable directory by not starting with a slash.
        Ok(now) if now.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(rustix::io::Errno::NOENT) => Err(outside()),
        Err(error) => Err(error).doing(|| "read the working directory"),
    }
}
