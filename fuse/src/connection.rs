//! A mount's FUSE connection seen from outside: its number and its control files.
//!
//! Those are files of the control filesystem, fusectl. Most systems mount it at
//! `/sys/fs/fuse/connections`; where nobody has, it is mounted at no place for as long as it is
//! used, so that neither its absence matters nor anything of the machine is changed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use thiserror::Error;

/// The control filesystem's type (Documentation/filesystems/fuse/fuse.rst).
const CONTROL: &str = "fusectl";

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
    /// The control filesystem cannot be mounted.
    #[error("cannot mount {CONTROL} (root in the host's user namespace is needed)")]
    Control(#[source] io::Error),
    /// A control file cannot be used.
    #[error("cannot use {file:?} of FUSE connection {connection}")]
    File {
        /// The control file's name.
        file: &'static str,
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
        matches!(self, Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound)
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

/// A control file of connection number `connection`, opened on a mount of the control filesystem
/// that no directory shows and that is gone when its last file is closed. There is one control
/// filesystem, however often it is mounted.
fn control_file(
    connection: u32,
    file: &'static str,
    flags: OFlags,
) -> Result<File, ConnectionError> {
    let control = mount_control().map_err(ConnectionError::Control)?;
    let name = format!("{connection}/{file}");
    let opened = rustix::fs::openat(&control, name, flags | OFlags::CLOEXEC, Mode::empty());
    opened
        .map(File::from)
        .map_err(|errno| file_error(connection, file)(errno.into()))
}

/// Mounts the control filesystem at no place (fsmount(2), Linux 5.2).
fn mount_control() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(CONTROL, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

fn file_error(connection: u32, file: &'static str) -> impl Fn(io::Error) -> ConnectionError {
    move |source| ConnectionError::File {
        file,
        connection,
        source,
    }
}

/// Ends connection number `connection` (see [`connection_id`]): every waiting and every later
/// request of its mounts fails with ECONNABORTED or ENOTCONN, and its server's `run` returns.
/// It cannot be undone.
///
/// # Errors
/// The control filesystem cannot be had, or there is no such connection
/// ([`ConnectionError::is_gone`]).
pub fn abort(connection: u32) -> Result<(), ConnectionError> {
    let mut file = control_file(connection, "abort", OFlags::WRONLY)?;
    file.write_all(b"1")
        .map_err(file_error(connection, "abort"))
}

/// The number in a control file: `waiting` (requests without an answer), `max_background` or
/// `congestion_threshold`.
///
/// # Errors
/// As [`abort`].
pub fn control_number(connection: u32, file: &'static str) -> Result<u64, ConnectionError> {
    let failed = file_error(connection, file);
    let mut text = String::new();
    control_file(connection, file, OFlags::RDONLY)?
        .read_to_string(&mut text)
        .map_err(&failed)?;
    let number = text.trim().parse();
    number.map_err(|error| failed(io::Error::other(error)))
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

    #[test]
    fn the_control_filesystem_needs_no_mount_point() {
        let before = fs::read("/proc/self/mountinfo").unwrap();
        let error = abort(u32::MAX).unwrap_err();
        assert!(error.is_gone(), "{error:?}");
        assert!(control_number(u32::MAX, "waiting").unwrap_err().is_gone());
        let mounts = |table: &[u8]| {
            let lines = String::from_utf8_lossy(table).into_owned();
            lines.lines().filter(|l| l.contains(" - fusectl ")).count()
        };
        let after = fs::read("/proc/self/mountinfo").unwrap();
        assert_eq!(mounts(&before), mounts(&after));
    }
}
