//! A containerd of its own, with an empty root, for one pull and one run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How long containerd may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running containerd.
pub struct Containerd {
    directory: PathBuf,
    child: Child,
}

impl Containerd {
    /// Starts one below `directory`; none where it is not installed.
    pub async fn start(directory: &Path) -> Result<Option<Self>> {
        std::fs::create_dir_all(directory)?;
        let at = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("sock")
        );
        std::fs::write(directory.join("config.toml"), config)?;
        let spawned = Command::new("containerd")
            .args(["--config", &at("config.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let containerd = Containerd {
            directory: directory.to_owned(),
            child,
        };
        let started = Instant::now();
        while !containerd
            .ctr(&["version"])
            .output()
            .await?
            .status
            .success()
        {
            if started.elapsed() > START_LIMIT {
                bail!("containerd does not answer");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Some(containerd))
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.directory.join("sock"))
            .args(arguments)
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Pulls an image and runs it; seconds from the start to the first output.
    pub async fn pull_and_run(&self, reference: &str) -> Result<f64> {
        let started = Instant::now();
        let pull = [
            "images",
            "pull",
            "--plain-http",
            "--snapshotter",
            "overlayfs",
            reference,
        ];
        let pulled = self.ctr(&pull).output().await?;
        if !pulled.status.success() {
            bail!("ctr pull: {}", String::from_utf8_lossy(&pulled.stderr));
        }
        let run = [
            "run",
            "--rm",
            "--snapshotter",
            "overlayfs",
            reference,
            "brisk-compare",
        ];
        let mut child = self.ctr(&run).spawn()?;
        let mut stdout = child.stdout.take().context("no output to read")?;
        let mut output = [0; 4096];
        let length = stdout.read(&mut output).await?;
        let first = started.elapsed().as_secs_f64();
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).await?;
        let status = child.wait().await?;
        if length == 0 || !status.success() {
            bail!("ctr run: {status}");
        }
        Ok(first)
    }

    /// Ends it.
    pub async fn close(mut self) -> Result<()> {
        if let Some(pid) = self.child.id() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        }
        self.child.wait().await?;
        std::fs::remove_dir_all(&self.directory)?;
        Ok(())
    }
}
