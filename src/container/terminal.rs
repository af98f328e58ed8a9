//! The user's terminal: raw while a container has it, and always given back.

use super::error::ContainerError;
use super::options::WindowSize;
use rustix::fd::{AsFd, OwnedFd};
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// A terminal in raw mode; dropping it restores what was there before, also while a panic
/// unwinds. (Signals do not end the command line while it is attached: it reads them.)
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Makes the terminal behind `fd` raw; none where it is no terminal.
    pub fn enter(fd: impl AsFd) -> Result<Option<RawTerminal>, ContainerError> {
        if !isatty(&fd) {
            return Ok(None);
        }
        let failed = ContainerError::kernel("read the terminal's settings");
        let before = tcgetattr(&fd).map_err(failed)?;
        let terminal = rustix::io::fcntl_dupfd_cloexec(&fd, 3)
            .map_err(ContainerError::kernel("duplicate the terminal"))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Flush, &raw)
            .map_err(ContainerError::kernel("set the terminal"))?;
        Ok(Some(RawTerminal { terminal, before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing back.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Size of the first of these that is a terminal.
pub fn window_size() -> Option<WindowSize> {
    let of = |fd: std::os::fd::BorrowedFd<'_>| {
        let size = tcgetwinsize(fd).ok()?;
        Some(WindowSize {
            rows: size.ws_row,
            columns: size.ws_col,
        })
    };
    of(rustix::stdio::stdout())
        .or_else(|| of(rustix::stdio::stdin()))
        .or_else(|| of(rustix::stdio::stderr()))
}

/// Sets the size of the terminal whose master is `master`.
pub fn set_window_size(master: impl AsFd, size: WindowSize) {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // A terminal whose program has just ended has no size to set.
    let _ = tcsetwinsize(master, size);
}
