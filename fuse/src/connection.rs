//! A mount's FUSE connection seen from outside: its number and its abort switch.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};
use thiserror::Error;

/// Where the control filesystem belongs (Documentation/filesystems/fuse/fuse.rst).
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// FUSE_CTL_SUPER_MAGIC of linux/magic.h.
const FUSECTL_MAGIC: FsType = FsType(0x6573_5543);

/// Why a connection cannot be named or aborted.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The directory cannot be looked at.
    #[error("cannot find the mount of {}", path.display())]
    Directory {
        /// The directory asked about.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The directory lies on another filesystem.
    #[error("{} is not on a FUSE mount", .0.display())]
    NotFuse(PathBuf),
    /// No control filesystem, so no connection can be aborted.
    #[error("no fusectl at {CONNECTIONS}: mount -t fusectl fusectl {CONNECTIONS}")]
    NoFusectl,
    /// The control filesystem cannot be mounted.
    #[error("cannot mount fusectl at {CONNECTIONS}")]
    MountFusectl(#[source] Errno),
    /// The connection cannot be aborted.
    #[error("cannot abort FUSE connection {connection}")]
    Abort {
        /// Number of the connection.
        connection: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl ConnectionError {
    /// Whether the connection is gone already, which is what an abort wants.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Abort { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Number of the FUSE connection that `dir` is on: the device minor of its mount.
///
/// Asks nothing of the server, so it works on a mount that does not answer: O_PATH opens without
/// a request, and /proc knows the rest.
///
/// # Errors
/// `dir` cannot be opened or is not on a FUSE mount.
pub fn connection_id(dir: &Path) -> Result<u32, ConnectionError> {
    let failed = |source| ConnectionError::Directory {
        path: dir.to_owned(),
        source,
    };
    let handle = File::options()
        .read(true)
        .custom_flags((OFlag::O_PATH | OFlag::O_CLOEXEC).bits())
        .open(dir)
        .map_err(failed)?;
    let info =
        fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd())).map_err(failed)?;
    let mounts = fs::read("/proc/self/mountinfo").map_err(failed)?;
    mount_id(&info)
        .and_then(|id| fuse_minor(&mounts, id))
        .ok_or_else(|| ConnectionError::NotFuse(dir.to_owned()))
}

/// The `mnt_id:` line of /proc/<pid>/fdinfo/<fd> (proc_pid_fdinfo(5)).
fn mount_id(fdinfo: &str) -> Option<u64> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))?
        .trim()
        .parse()
        .ok()
}

/// Device minor of mount `id` in a /proc/<pid>/mountinfo (proc_pid_mountinfo(5)) when its type is
/// FUSE. Fields: id, parent, major:minor, root, mount point, options, optional fields, "-", type.
fn fuse_minor(mountinfo: &[u8], id: u64) -> Option<u32> {
    for line in mountinfo.split(|&byte| byte == b'\n') {
        // Paths may be any bytes; the fields that are read are ASCII.
        let line = String::from_utf8_lossy(line);
        let mut fields = line.split(' ');
        if fields.next().and_then(|field| field.parse::<u64>().ok()) != Some(id) {
            continue;
        }
        let minor = fields.nth(1)?.split_once(':')?.1.parse().ok()?;
        let kind = fields.skip_while(|&field| field != "-").nth(1)?;
        return (kind == "fuse" || kind.starts_with("fuse.")).then_some(minor);
    }
    None
}

/// Mounts the control filesystem where it belongs unless it is there already.
///
/// # Errors
/// mount(2) fails, for instance on a read-only /sys.
pub fn ensure_fusectl() -> Result<(), ConnectionError> {
    if has_fusectl() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(
        Some("fusectl"),
        CONNECTIONS,
        Some("fusectl"),
        flags,
        None::<&str>,
    ) {
        // Busy: another process was faster.
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(errno) => Err(ConnectionError::MountFusectl(errno)),
    }
}

fn has_fusectl() -> bool {
    statfs(CONNECTIONS).is_ok_and(|found| found.filesystem_type() == FUSECTL_MAGIC)
}

/// Ends connection number `connection` (see [`connection_id`]): every waiting and every later
/// request of its mounts fails with ECONNABORTED or ENOTCONN, and its server's `run` returns.
/// It cannot be undone.
///
/// # Errors
/// No control filesystem is mounted (see [`ensure_fusectl`]), or there is no such connection
/// ([`ConnectionError::is_gone`]).
pub fn abort(connection: u32) -> Result<(), ConnectionError> {
    if !has_fusectl() {
        return Err(ConnectionError::NoFusectl);
    }
    let path = Path::new(CONNECTIONS)
        .join(connection.to_string())
        .join("abort");
    fs::write(path, b"1").map_err(|source| ConnectionError::Abort { connection, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
        40 22 0:51 / /run/a\\040b\xff ro,nosuid shared:3 master:1 - fuse.brisk brisk ro,user_id=0\n\
        41 22 0:52 / /run/x rw - fusectl fusectl rw\n";

    #[test]
    fn the_minor_of_a_fuse_mount_is_found() {
        assert_eq!(fuse_minor(MOUNTINFO, 40), Some(51));
        assert_eq!(fuse_minor(MOUNTINFO, 22), None, "not FUSE");
        assert_eq!(fuse_minor(MOUNTINFO, 41), None, "fusectl is not FUSE");
        assert_eq!(fuse_minor(MOUNTINFO, 4), None, "no such mount");
    }

    #[test]
    fn the_mount_id_is_read() {
        assert_eq!(
            mount_id("pos:\t0\nflags:\t012000000\nmnt_id:\t40\nino:\t1\n"),
            Some(40)
        );
        assert_eq!(mount_id("pos:\t0\n"), None);
    }

    #[test]
    fn other_filesystems_have_no_connection() {
        assert!(matches!(
            connection_id(Path::new("/proc")),
            Err(ConnectionError::NotFuse(_))
        ));
        assert!(matches!(
            connection_id(Path::new("/proc/no-such-file")),
            Err(ConnectionError::Directory { .. })
        ));
    }
}
