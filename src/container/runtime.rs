//! The OCI runtime: finding it, calling it, understanding its refusals.
//!
//! The command line is the one that containerd's shim, CRI-O and podman use with runc.

use super::error::{ContainerError, RuntimeFailure};
use super::id::ContainerId;
use super::process::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The runtime where `--runtime` names none.
pub const DEFAULT_RUNTIME: &str = "brisk-runtime";
/// Longest call of the runtime. Creating reads the image, which may wait for the network
/// as long as `on_outage` says (five minutes unless configured): twice that.
const CALL_LIMIT: Duration = Duration::from_secs(600);
/// Bytes of the runtime's log and error output that are looked at.
const MAX_MESSAGE_BYTES: u64 = 64 << 10;

/// Finds the runtime: a path as it is, a name beside the running program and then in
/// `PATH`.
pub fn locate(wanted: Option<&str>) -> Result<PathBuf, ContainerError> {
    let wanted = wanted.unwrap_or(DEFAULT_RUNTIME);
    let missing = || ContainerError::NoRuntime(wanted.to_owned());
    if wanted.contains('/') {
        let path = std::path::absolute(wanted).map_err(|_| missing())?;
        return if is_program(&path) {
            Ok(path)
        } else {
            Err(missing())
        };
    }
    if wanted.is_empty() {
        return Err(missing());
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(wanted)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path).map(|directory| directory.join(wanted)))
        .find(|candidate| candidate.is_absolute() && is_program(candidate))
        .ok_or_else(missing)
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// A runtime and where it keeps its state.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The program.
    pub program: PathBuf,
    /// Its `--root`.
    pub root: PathBuf,
    /// Where it writes what went wrong.
    pub log: PathBuf,
}

/// Input and output of a process that the runtime creates.
#[derive(Debug)]
pub struct ProcessStdio {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}

impl ProcessStdio {
    /// Nothing to read, nowhere to write; also right where a terminal is asked for.
    pub fn null() -> ProcessStdio {
        ProcessStdio {
            stdin: Stdio::null(),
            stdout: Stdio::null(),
            stderr: Stdio::null(),
        }
    }
}

impl Runtime {
    /// Creates the container of `bundle` and writes the pid of its first process. What is
    /// readable on `cancel` ends the attempt.
    pub fn create(
        &self,
        id: &ContainerId,
        bundle: &Path,
        pid_file: &Path,
        console: Option<&Path>,
        stdio: ProcessStdio,
        cancel: Option<BorrowedFd<'_>>,
    ) -> Result<(), ContainerError> {
        let mut command = self.command("create");
        command
            .arg("--bundle")
            .arg(bundle)
            .arg("--pid-file")
            .arg(pid_file);
        if let Some(console) = console {
            command.arg("--console-socket").arg(console);
        }
        command.arg(id.as_str());
        command
            .stdin(stdio.stdin)
            .stdout(stdio.stdout)
            .stderr(stdio.stderr);
        self.call("create", command, cancel)
    }

    /// Lets the created program begin.
    pub fn start(
        &self,
        id: &ContainerId,
        cancel: Option<BorrowedFd<'_>>,
    ) -> Result<(), ContainerError> {
        let mut command = self.command("start");
        command.arg(id.as_str());
        self.call("start", command, cancel)
    }

    /// Removes the container, whatever state it is in; one that is gone is no error.
    pub fn delete(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let mut command = self.command("delete");
        command.arg("--force").arg(id.as_str());
        self.call("delete", command, None)
    }

    /// Starts a further process and writes its pid.
    pub fn exec(
        &self,
        id: &ContainerId,
        process: &Path,
        pid_file: &Path,
        console: Option<&Path>,
        stdio: ProcessStdio,
    ) -> Result<(), ContainerError> {
        let mut command = self.command("exec");
        command
            .arg("--detach")
            .arg("--process")
            .arg(process)
            .arg("--pid-file")
            .arg(pid_file);
        if let Some(console) = console {
            command.arg("--console-socket").arg(console);
        }
        command.arg(id.as_str());
        command
            .stdin(stdio.stdin)
            .stdout(stdio.stdout)
            .stderr(stdio.stderr);
        self.call("exec", command, None)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(&self.log);
        command.arg("--log-format").arg("json").arg(verb);
        // It belongs to brisk's own service, not to a container.
        command.env_remove("NOTIFY_SOCKET");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // We read our signals from a descriptor; the container's processes must not
        // inherit that they are blocked.
        sys::unblock_signals(&mut command);
        command
    }

    fn call(
        &self,
        verb: &'static str,
        mut command: Command,
        cancel: Option<BorrowedFd<'_>>,
    ) -> Result<(), ContainerError> {
        let logged = std::fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        let child = command
            .spawn()
            .map_err(ContainerError::file("start", &self.program))?;
        // The command holds the container's ends of the pipes.
        drop(command);
        let status = wait_for(child, cancel)?;
        if status.success() {
            return Ok(());
        }
        let message = self
            .last_error(logged)
            .unwrap_or_else(|| status.to_string());
        let runtime = self.program.file_name().unwrap_or(OsStr::new("runtime"));
        Err(ContainerError::Runtime {
            runtime: runtime.to_string_lossy().into_owned(),
            verb,
            failure: classify(&message),
            message,
        })
    }

    /// The last error in the log beyond `offset`.
    fn last_error(&self, offset: u64) -> Option<String> {
        #[derive(Deserialize)]
        struct Line {
            level: String,
            msg: String,
        }
        let mut file = File::open(&self.log).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(
            offset.max(length.saturating_sub(MAX_MESSAGE_BYTES)),
        ))
        .ok()?;
        let mut text = Vec::new();
        file.take(MAX_MESSAGE_BYTES).read_to_end(&mut text).ok()?;
        String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok())
            .rfind(|line| matches!(line.level.as_str(), "error" | "fatal"))
            .map(|line| line.msg)
    }
}

/// Waits for the runtime, at most [`CALL_LIMIT`] and until `cancel` says something; then it
/// is killed.
fn wait_for(
    mut child: Child,
    cancel: Option<BorrowedFd<'_>>,
) -> Result<ExitStatus, ContainerError> {
    let failed = |source| ContainerError::Kernel {
        action: "wait for the runtime",
        source,
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else {
        return child.wait().map_err(failed);
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(ContainerError::kernel("watch the runtime"))?;
    let deadline = Instant::now() + CALL_LIMIT;
    let ended = loop {
        let mut watched = vec![PollFd::new(&pidfd, PollFlags::IN)];
        watched.extend(cancel.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut watched, Some(&timespec(left))) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(ContainerError::kernel("watch the runtime")(errno)),
            Ok(0) => {
                break Some(ContainerError::TimedOut {
                    what: "the OCI runtime",
                    seconds: CALL_LIMIT.as_secs(),
                });
            }
            Ok(_) if !watched[0].revents().is_empty() => break None,
            Ok(_) => break Some(ContainerError::Interrupted { signal: 2 }),
        }
    };
    if ended.is_some() {
        // It may have ended in this instant.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
    let status = child.wait().map_err(failed)?;
    ended.map_or(Ok(status), Err)
}

/// What the runtime's words mean. Its contract has no codes for this: docker, podman and
/// containerd read the words too. They are runc's, crun's and brisk-runtime's.
pub fn classify(message: &str) -> RuntimeFailure {
    let message = message.to_ascii_lowercase();
    let says = |text: &str| message.contains(text);
    let about_program = says("exec") && !says("mount");
    let missing = says("executable file") && says("not found")
        || says("exec: ") && says("no such file or directory");
    if about_program && missing {
        RuntimeFailure::NotFound
    } else if about_program
        && [
            "permission denied",
            "exec format error",
            "is a directory",
            "not a directory",
        ]
        .into_iter()
        .any(says)
    {
        RuntimeFailure::NotExecutable
    } else {
        RuntimeFailure::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        for (message, failure) in [
            (
                "runc create failed: unable to start container process: exec: \"nosuch\": \
                 executable file not found in $PATH",
                RuntimeFailure::NotFound,
            ),
            (
                "runc create failed: unable to start container process: exec: \"/nosuch\": \
                 stat /nosuch: no such file or directory",
                RuntimeFailure::NotFound,
            ),
            (
                "executable file `nosuch` not found in $PATH: No such file or directory",
                RuntimeFailure::NotFound,
            ),
            (
                "runc create failed: unable to start container process: exec: \"/etc/passwd\": \
                 permission denied",
                RuntimeFailure::NotExecutable,
            ),
            ("exec /x: exec format error", RuntimeFailure::NotExecutable),
            (
                "runc create failed: unable to start container process: error during container \
                 init: error mounting \"/x\" to rootfs at \"/y\": mount /x:/y: permission denied",
                RuntimeFailure::Other,
            ),
            ("cgroup: no such file or directory", RuntimeFailure::Other),
        ] {
            assert_eq!(classify(message), failure, "{message}");
        }
    }

    #[test]
    fn found_by_path_and_by_name() {
        assert_eq!(locate(Some("/bin/sh")).unwrap(), Path::new("/bin/sh"));
        assert!(locate(Some("sh")).unwrap().ends_with("sh"));
        for missing in [
            "",
            "/",
            "/etc/passwd",
            "no-such-runtime-anywhere",
            "./nosuch",
        ] {
            let error = locate(Some(missing)).unwrap_err();
            assert!(matches!(error, ContainerError::NoRuntime(_)), "{missing:?}");
            assert!(error.hint().is_some());
        }
    }
}
