//! A node: one brisk root with its service, keeper and containers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// A command of brisk that takes longer hangs.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);
/// How long processes of a stopped node may take to end by themselves.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How often they are looked at.
const END_PAUSE: Duration = Duration::from_millis(20);

/// What a program wrote, and when it began to.
#[derive(Clone, Debug)]
pub struct FirstOutput {
    /// From the start of the command to the first byte of its output.
    pub first: Duration,
    /// From the start of the command to its end.
    pub whole: Duration,
    /// All its output.
    pub output: Vec<u8>,
}

/// One brisk root. [`Node::close`] takes everything down.
#[derive(Clone, Debug)]
pub struct Node {
    brisk: PathBuf,
    root: PathBuf,
}

impl Node {
    /// A node whose root, made at the first command, is `root`.
    pub fn new(brisk: &Path, root: PathBuf) -> Self {
        Node {
            brisk: brisk.to_owned(),
            root,
        }
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command of brisk on this root, killed when dropped. It has a process group of its
    /// own: an interrupt from the terminal is this program's to pass on.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.brisk);
        command
            .arg("--root")
            .arg(&self.root)
            .args(arguments)
            // What is measured is the link to loopback, not a proxy.
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end; its output.
    ///
    /// # Errors
    /// Where it fails, with its own words.
    pub async fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Vec<u8>> {
        Ok(self.first_output(arguments, || {}).await?.output)
    }

    /// Runs a command to its end and notes when its first output came; `on_first` is called
    /// at that moment.
    ///
    /// # Errors
    /// Where it fails, with its own words.
    pub async fn first_output<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        on_first: impl FnOnce(),
    ) -> Result<FirstOutput> {
        let verb = arguments
            .iter()
            .map(|a| a.as_ref().to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let watched = watch(self.command(arguments), on_first);
        match tokio::time::timeout(COMMAND_LIMIT, watched).await {
            Ok(result) => result.with_context(|| format!("brisk {verb}")),
            Err(_) => bail!("brisk {verb}: no end after {COMMAND_LIMIT:?}"),
        }
    }

    /// The service's status.
    ///
    /// # Errors
    /// Where the service does not answer with one.
    pub async fn status(&self) -> Result<serde_json::Value> {
        let output = self.run(&["status", "--json"]).await?;
        Ok(serde_json::from_slice(&output)?)
    }

    /// Removes containers, mounts, processes and the root. What does not go when asked is
    /// taken down from outside.
    ///
    /// # Errors
    /// Where the root cannot be removed.
    pub async fn close(&self) -> Result<()> {
        if !self.root.exists() {
            return Ok(());
        }
        if let Ok(ids) = self.run(&["ps", "--all", "--quiet", "--no-trunc"]).await {
            let ids = String::from_utf8_lossy(&ids);
            let mut arguments = vec!["rm", "--force"];
            arguments.extend(ids.split_whitespace());
            if arguments.len() > 2 {
                let _ = self.run(&arguments).await;
            }
        }
        let _ = self.run(&["service-stop", "--unmount"]).await;
        let started = Instant::now();
        while !processes_of(&self.root).is_empty() && started.elapsed() < END_LIMIT {
            tokio::time::sleep(END_PAUSE).await;
        }
        for process in processes_of(&self.root) {
            let _ = kill(process, Signal::SIGKILL);
        }
        for mount in mounts_below(&self.root).iter().rev() {
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
        tokio::fs::remove_dir_all(&self.root)
            .await
            .with_context(|| format!("removing {}", self.root.display()))
    }
}

/// Runs a command; its output, and when the first of it came.
async fn watch(mut command: Command, on_first: impl FnOnce()) -> Result<FirstOutput> {
    let started = Instant::now();
    let mut child = command.spawn()?;
    let mut stdout = child.stdout.take().context("no output to read")?;
    let mut stderr = child.stderr.take().context("no errors to read")?;
    let words = tokio::spawn(async move {
        let mut words = String::new();
        let _ = stderr.read_to_string(&mut words).await;
        words
    });
    let mut output = vec![0; 64 * 1024];
    let length = stdout.read(&mut output).await?;
    let first = started.elapsed();
    on_first();
    output.truncate(length);
    stdout.read_to_end(&mut output).await?;
    let status = child.wait().await?;
    let whole = started.elapsed();
    if !status.success() {
        bail!("{status}: {}", words.await.unwrap_or_default().trim());
    }
    Ok(FirstOutput {
        first,
        whole,
        output,
    })
}

/// Mount points below a directory, in the order of mounting.
fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let prefix = format!("{}/", directory.display());
    std::fs::read_to_string("/proc/self/mounts")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| path.starts_with(&prefix))
        .map(PathBuf::from)
        .collect()
}

/// Processes that have a root, or something below it, on their command line.
fn processes_of(root: &Path) -> Vec<Pid> {
    let own = std::process::id().to_string();
    let root = root.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if name != *own && line.split(|b| *b == 0).any(|word| word.starts_with(root)) {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

/// The `brisk` program that was built beside this one.
///
/// # Errors
/// Where there is none.
pub fn brisk_beside() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // A bench lies one directory deeper than the programs.
    let found = own.ancestors().skip(1).take(2).map(|d| d.join("brisk"));
    let brisk = found.into_iter().find(|path| path.is_file());
    brisk.with_context(|| format!("no brisk beside {}; `make build` makes it", own.display()))
}
