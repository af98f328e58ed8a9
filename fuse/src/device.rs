//! /dev/fuse: opening, mounting, and the kernel's first request.
//!
//! Used by the process that keeps the descriptor. It reads FUSE_INIT itself, so that no server
//! can die with it: a mount whose only FUSE_INIT is lost stays dead.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;

pub use crate::connection::{ConnectionError, abort, connection_id, control_number};
use crate::init::{InitError, InitRequest};

const DEVICE: &str = "/dev/fuse";

/// The subtype shows up as `fuse.brisk` in /proc/mounts.
const FILESYSTEM_TYPE: &str = "fuse.brisk";

/// The kernel queues FUSE_INIT inside mount(2), so it is there at once; the limit only keeps a
/// broken kernel module from hanging the caller for ever.
const INIT_TIME_LIMIT: Duration = Duration::from_secs(10);

/// Room for one request. The kernel refuses reads into less than FUSE_MIN_READ_BUFFER (8192).
const READ_BUFFER: usize = 64 * 1024;

/// How a tree is mounted. Always read-only, `default_permissions` (a server without open has no
/// other permission check) and `allow_other` (the containers' users are other users).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// The source shown in /proc/mounts.
    pub source: String,
    /// Ignore setuid bits and file capabilities. An overlay above does not inherit it, so
    /// containers lose nothing and the host is not exposed to what an image brings.
    pub nosuid: bool,
    /// Ignore device nodes. An overlay above does not inherit it.
    pub nodev: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            source: "brisk".to_owned(),
            nosuid: true,
            nodev: true,
        }
    }
}

impl MountOptions {
    fn flags(&self) -> MsFlags {
        let mut flags = MsFlags::MS_RDONLY;
        flags.set(MsFlags::MS_NOSUID, self.nosuid);
        flags.set(MsFlags::MS_NODEV, self.nodev);
        flags
    }
}

/// Why a tree could not be mounted.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// /dev/fuse cannot be opened.
    #[error("cannot open {DEVICE} (is the fuse module loaded?)")]
    Open(#[source] std::io::Error),
    /// mount(2) failed.
    #[error("cannot mount FUSE at {}", path.display())]
    Mount {
        /// Where it was to be mounted.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        errno: Errno,
    },
    /// The kernel sent no FUSE_INIT in time.
    #[error("the kernel sent no FUSE_INIT for {} within {} s", .0.display(), INIT_TIME_LIMIT.as_secs())]
    NoInit(PathBuf),
    /// Reading from the device failed.
    #[error("cannot read FUSE_INIT from {DEVICE}")]
    Read(#[source] std::io::Error),
    /// The first request is not a FUSE_INIT that can be answered.
    #[error("the first request of a new FUSE mount is unusable")]
    Init(#[from] InitError),
}

/// Mounts an empty session at `dir` and returns its device and the bytes of the kernel's
/// FUSE_INIT, which [`crate::Session::adopt`] takes. Until a server adopts it, everything below
/// `dir` waits.
///
/// `dir` must be a fresh directory: mounting twice at one place confuses path-based unmounting.
/// The device is close-on-exec. When the last descriptor of it is closed, the connection ends and
/// the mount answers ENOTCONN.
///
/// # Errors
/// The device cannot be opened, mount(2) fails, or the kernel sends no usable FUSE_INIT; the
/// directory is not left mounted.
pub fn open_and_mount(
    dir: &Path,
    options: &MountOptions,
) -> Result<(OwnedFd, Vec<u8>), DeviceError> {
    let device = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_CLOEXEC.bits())
        .open(DEVICE)
        .map_err(DeviceError::Open)?;
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    );
    mount(
        Some(options.source.as_str()),
        dir,
        Some(FILESYSTEM_TYPE),
        options.flags(),
        Some(data.as_str()),
    )
    .map_err(|errno| DeviceError::Mount {
        path: dir.to_owned(),
        errno,
    })?;
    match read_init(&device, dir) {
        Ok(init) => Ok((device.into(), init)),
        Err(error) => {
            // The first error is the one to report; the mount is useless either way.
            if let Err(errno) = umount2(dir, MntFlags::MNT_DETACH) {
                tracing::warn!(path = %dir.display(), %errno, "cannot unmount a failed mount");
            }
            Err(error)
        }
    }
}

fn read_init(mut device: &File, dir: &Path) -> Result<Vec<u8>, DeviceError> {
    let deadline = Instant::now() + INIT_TIME_LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut ready = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) => return Err(DeviceError::NoInit(dir.to_owned())),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(DeviceError::Read(errno.into())),
        }
    }
    let mut bytes = vec![0; READ_BUFFER];
    let length = device.read(&mut bytes).map_err(DeviceError::Read)?;
    bytes.truncate(length);
    bytes.shrink_to_fit();
    InitRequest::parse(&bytes)?;
    Ok(bytes)
}
