//! Running hooks.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::spec::Hook;
use crate::state::{State, Status};

/// How often a hook with a time limit is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Runs `hooks` one after the other with the container's state on their standard input, in
/// `directory` or where this process is.
///
/// # Errors
/// [`Error::Hook`] of the first that fails or outlives its time.
pub fn run_in(
    directory: Option<&Path>,
    hooks: &[Hook],
    state: &State,
    status: Status,
) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(&state.report(status)).map_err(|error| Error::Document {
        path: PathBuf::from("state"),
        reason: error.to_string(),
    })?;
    hooks
        .iter()
        .try_for_each(|hook| run_one(directory, hook, &text))
}

/// [`run_in`] where this process is.
///
/// # Errors
/// As there.
pub fn run(hooks: &[Hook], state: &State, status: Status) -> Result<()> {
    run_in(None, hooks, state, status)
}

fn run_one(directory: Option<&Path>, hook: &Hook, state: &[u8]) -> Result<()> {
    let failed = |reason: String| Error::Hook {
        path: PathBuf::from(&hook.path),
        reason,
    };
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.args.split_first() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
        command.args(arguments);
    }
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.env_clear().stdin(Stdio::piped());
    command.envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // A hook need not read it: a pipe that is closed already is no failure.
        let _ = input.write_all(state);
    }
    let deadline = hook
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(u64::from(seconds)));
    let status = loop {
        if let Some(deadline) = deadline {
            match child
                .try_wait()
                .map_err(|error| failed(error.to_string()))?
            {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(failed("exceeded its timeout".to_owned()));
                }
                None => pause(),
            }
        } else {
            break child.wait().map_err(|error| failed(error.to_string()))?;
        }
    };
    if status.success() {
        Ok(())
    } else {
        Err(failed(describe(status)))
    }
}

/// A filter's verdict in words, since the hook of the container runs under its filter.
fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(nix::libc::SIGSYS) => format!("bad system call ({status})"),
        _ => status.to_string(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "waiting with a limit has no other portable form"
)]
fn pause() {
    std::thread::sleep(POLL);
}
