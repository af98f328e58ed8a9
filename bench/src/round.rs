//! `brisk-round RUNTIME STATE BUNDLE`: one container with a program that ends at once, from create
//! to delete, and what it cost. A process of its own, and a small one, since the peak memory that
//! the kernel tells of children begins with that of the one who forks them.
//!
//! Prints wall and processor time in microseconds and the peak memory of any process in KiB.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [runtime, state, bundle] = &words[..] else {
        eprintln!("usage: brisk-round RUNTIME STATE BUNDLE");
        return ExitCode::from(2);
    };
    match round(runtime, Path::new(state), Path::new(bundle)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("brisk-round: {runtime}: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn round(runtime: &str, state: &Path, bundle: &Path) -> Result<String, String> {
    // The container's first process falls to this one, as it does to a shim, so that its cost
    // counts and its end is known.
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| error.to_string())?;
    let id = format!("round-{}", std::process::id());
    let pid_file = state.join(format!("{id}.pid"));
    let call = |words: &[&str]| -> Result<(), String> {
        let status = Command::new(runtime)
            .arg("--root")
            .arg(state)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|error| error.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{}: {status}", words[0]))
        }
    };
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let began = Instant::now();
    let done = (|| {
        call(&[
            "create",
            "--bundle",
            &path(bundle),
            "--pid-file",
            &path(&pid_file),
            &id,
        ])?;
        let pid = std::fs::read_to_string(&pid_file).map_err(|error| error.to_string())?;
        let pid: i32 = pid.trim().parse().map_err(|_| "no pid".to_owned())?;
        call(&["start", &id])?;
        waitpid(Pid::from_raw(pid), None).map_err(|error| error.to_string())?;
        call(&["delete", &id])
    })();
    let wall = began.elapsed().as_micros();
    let _ = std::fs::remove_file(&pid_file);
    if let Err(reason) = done {
        let _ = call(&["delete", "--force", &id]);
        return Err(reason);
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
    let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(format!("{wall} {cpu} {}", usage.max_rss()))
}
