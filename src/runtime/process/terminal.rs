//! A pseudoterminal of the container's own devpts, handed to whoever asked for it.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use rustix::pty::OpenptFlags;

use crate::defence::Defence;
use crate::error::{Context, Error, Result};
use crate::rootfs::Root;
use crate::spec::ConsoleSize;

/// Major numbers of the slave sides of pseudoterminals, `Documentation/admin-guide/devices.txt`.
const TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;

/// The connection over which the master side leaves.
#[derive(Debug)]
pub struct Console {
    stream: UnixStream,
}

impl Console {
    /// Connects to the socket at `path`, while paths are still the host's.
    ///
    /// # Errors
    /// [`Error::Os`] naming the path.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .doing(|| format!("connect to the console socket {}", path.display()))?;
        Ok(Self { stream })
    }

    /// A console whose other end this process keeps.
    #[must_use]
    pub fn over(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// The same connection once more, for the child of a fork to own.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn try_clone(&self) -> Result<Self> {
        let stream = self
            .stream
            .try_clone()
            .doing(|| "copy the console socket")?;
        Ok(Self { stream })
    }

    fn send(&self, master: &OwnedFd) -> Result<()> {
        let descriptors = [master.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&descriptors)];
        // Receivers print the name and need at least one byte.
        let data = [IoSlice::new(b"/dev/ptmx")];
        sendmsg::<()>(
            self.stream.as_raw_fd(),
            &data,
            &control,
            MsgFlags::empty(),
            None,
        )
        .doing(|| "send the terminal over the console socket")?;
        Ok(())
    }
}

/// Opens a terminal in the container below `root` and sends the master away. The slave side also
/// becomes `/dev/console` when `console_device`.
///
/// # Errors
/// [`Error::Os`], [`Error::Invalid`] where `/dev/ptmx` is something else.
pub fn open(
    root: &Root,
    console: &Console,
    size: Option<ConsoleSize>,
    console_device: bool,
) -> Result<OwnedFd> {
    let master = root
        .open("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY)
        .doing(|| "open /dev/ptmx in the container")?;
    let found = rustix::fs::fstat(&master).doing(|| "stat /dev/ptmx")?;
    let is_multiplexer = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == rustix::fs::makedev(5, 2);
    if !is_multiplexer {
        return Err(Error::invalid(
            "/dev/ptmx",
            "is not the terminal multiplexer",
        ));
    }
    rustix::pty::unlockpt(&master).doing(|| "unlock the terminal")?;
    // The peer by its master, not by a path that the image could have prepared.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, flags).doing(|| "open the terminal's peer")?;
    if let Some(size) = size {
        let size = rustix::termios::Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).doing(|| "set the terminal's size")?;
    }
    if console_device {
        bind_console(root, &slave)?;
    }
    console.send(&master)?;
    Ok(slave)
}

/// The terminal by its descriptor, onto a file of `/dev` itself: neither the image's names for
/// terminals nor a link in place of the console take part.
fn bind_console(root: &Root, slave: &OwnedFd) -> Result<()> {
    let action = || "bind /dev/console";
    let found = rustix::fs::fstat(slave).doing(action)?;
    let is_terminal = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && TERMINALS.contains(&rustix::fs::major(found.st_rdev));
    if !is_terminal {
        return Err(Error::invalid("/dev/console", "would be no terminal"));
    }
    let by_name;
    let slave = if Defence::TerminalPeer.is_on() {
        slave
    } else {
        by_name = root.open("/dev/pts/0", OFlags::PATH).doing(action)?;
        &by_name
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(slave, "", flags).doing(action)?;
    let (dev, name) = root.parent_of(Path::new("/dev/console"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&dev, &name, flags, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error).doing(action),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(&dev, &name, flags, Mode::empty()).doing(action)?;
    let found = rustix::fs::fstat(&target).doing(action)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
        return Err(Error::invalid("/dev/console", "is a symlink in the image"));
    }
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | rustix::mount::MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", &target, "", flags).doing(action)
}

/// Makes `slave` the controlling terminal and the standard streams of this process, which leads
/// its session, and gives it to `uid`.
///
/// # Errors
/// [`Error::Os`].
pub fn attach(slave: &OwnedFd, uid: u32) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave.as_fd()).doing(|| "take the controlling terminal")?;
    rustix::fs::fchown(slave, Some(rustix::fs::Uid::from_raw(uid)), None)
        .doing(|| "give the terminal to the user")?;
    rustix::stdio::dup2_stdin(slave).doing(|| "set stdin")?;
    rustix::stdio::dup2_stdout(slave).doing(|| "set stdout")?;
    rustix::stdio::dup2_stderr(slave).doing(|| "set stderr")
}
