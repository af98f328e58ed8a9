//! Debian's docker-registry as a child process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{images, run};

/// A running docker-registry with its own storage; dropping it ends it.
pub struct DockerRegistry {
    address: SocketAddr,
    child: Child,
    directory: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts a registry on a free loopback port.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let child = spawn(directory.path(), address);
        let registry = DockerRegistry { address, child, directory };
        registry.wait();
        registry
    }

    fn wait(&self) {
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "docker-registry did not start");
            pause(10);
        }
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Process ID, for tests that stop it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process; what was pushed stays.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port with what was pushed.
    pub fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.directory.path(), self.address);
        self.wait();
    }

    /// Pushes a test image by skopeo; gives its reference.
    pub fn push(&self, image: &str, repository: &str) -> String {
        let source = format!("oci:{}:latest", images::layout(image).display());
        let reference = format!("{}/{repository}:latest", self.host());
        run(Command::new("skopeo").args([
            "copy",
            "-q",
            "--preserve-digests",
            "--dest-tls-verify=false",
            &source,
            &format!("docker://{reference}"),
        ]));
        reference
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // A test may have stopped it by a signal.
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT);
        self.stop();
    }
}

fn spawn(directory: &Path, address: SocketAddr) -> Child {
    let configuration = directory.join("config.yml");
    std::fs::write(
        &configuration,
        format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{address}'}}\n",
            directory.join("storage").display()
        ),
    )
    .unwrap();
    Command::new("docker-registry")
        .arg("serve")
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Waits a little for another process.
#[expect(clippy::disallowed_methods, reason = "another process's progress has no event")]
pub fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits until `condition` holds; panics naming `what` after `limit`.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
        pause(10);
    }
}
