//! Signals of processes that we start.

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the child receive every signal. A process inherits the signal mask of the thread
/// that starts it, and one that reads its signals from a descriptor has them blocked.
pub fn unblock_signals(command: &mut Command) {
    let unblock = || {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls
    // are allowed. sigprocmask(2) is one; it allocates nothing, takes no lock, and the
    // conversion of its error to io::Error stores a number. No safe call sets the mask of a
    // child: std passes the parent's on.
    unsafe {
        command.pre_exec(unblock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_nothing_blocked() {
        let mut blocked = SigSet::empty();
        blocked.add(nix::sys::signal::Signal::SIGUSR1);
        let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
        let mask = |command: &mut Command| {
            let output = command
                .arg("SigBlk")
                .arg("/proc/self/status")
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(
            !mask(&mut Command::new("grep"))
                .trim_end()
                .ends_with("0000000000000000")
        );
        let mut command = Command::new("grep");
        unblock_signals(&mut command);
        assert!(mask(&mut command).trim_end().ends_with("0000000000000000"));
        before.thread_set_mask().unwrap();
    }
}
