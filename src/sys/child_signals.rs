//! Signals of processes that we start.

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the child receive every signal, none blocked and none ignored. A process inherits the
/// signal mask of the thread that starts it, and one that reads its signals from a descriptor
/// has them blocked; what is ignored is inherited too, for instance SIGINT in the background of
/// a shell without job control.
pub fn unblock_signals(command: &mut Command) {
    let unblock = || {
        for number in 1..=libc::SIGRTMAX() {
            // Those that cannot be set (SIGKILL, glibc's own) stay as they are.
            // SAFETY: SIG_DFL is no handler of ours, so nothing runs in signal context.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls
    // are allowed. signal(2) and sigprocmask(2) are; they allocate nothing, take no lock, and
    // the conversion of an error to io::Error stores a number. SIG_DFL is no handler of ours.
    // No safe call sets the mask of a child: std passes the parent's on.
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

    #[test]
    fn a_child_ignores_nothing() {
        // Its own child starts with what this shell ignores.
        let inside = "SHELL_CHILD";
        if std::env::var_os(inside).is_some() {
            let mut command = Command::new("grep");
            command.args(["SigIgn", "/proc/self/status"]);
            unblock_signals(&mut command);
            let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
            let mask = text.split_whitespace().nth(1).unwrap();
            // Not 32 and 33, which belong to the C library.
            let ignored = u64::from_str_radix(mask, 16).unwrap() & !(0b11 << 31);
            assert_eq!(ignored, 0, "{text}");
            return;
        }
        let script = "trap '' INT QUIT TERM; exec \"$0\" child_signals::tests::a_child_ignores";
        let status = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .env(inside, "1")
            .status()
            .unwrap();
        assert!(status.success());
    }
}
