//! Debian's docker-registry as a child process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{images, run};

/// bcrypt of "secret", as htpasswd -B writes it.
const PASSWORDS: &str = "tester:$2y$05$cosu/4LsJ2Y/9olQEWM/3OF9VZrIzoXJ4lx4K19yimMAKeMT1nNwW\n";

/// A running docker-registry with its own storage; dropping it ends it.
pub struct DockerRegistry {
    address: SocketAddr,
    child: Child,
    directory: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts a registry on a free loopback port.
    pub fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// Starts a registry that wants user `tester` and password `secret`.
    pub fn start_guarded() -> Self {
        Self::start_with(|directory| {
            let passwords = directory.join("passwords");
            std::fs::write(&passwords, PASSWORDS).unwrap();
            let path = passwords.display();
            format!("auth: {{htpasswd: {{realm: here, path: '{path}'}}}}\n")
        })
    }

    /// Starts a registry that speaks TLS for these names; gives the authority's certificate too.
    pub fn start_encrypted(names: &[&str]) -> (Self, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let registry = Self::start_with(|directory| {
            let (authority, own) = (directory.join("authority.pem"), directory.join("own.pem"));
            let key = directory.join("key.pem");
            let [authority_text, own_text, key_text] = certificates(names);
            std::fs::write(&authority, authority_text).unwrap();
            std::fs::write(&own, own_text).unwrap();
            std::fs::write(&key, key_text).unwrap();
            let (own, key) = (own.display(), key.display());
            format!("  tls: {{certificate: '{own}', key: '{key}'}}\n")
        });
        let authority = registry.directory.path().join("authority.pem");
        (registry, authority)
    }

    /// Starts a registry that speaks TLS for these names with those who have a certificate of its
    /// authority; gives a directory with `ca.crt`, `client.cert` and `client.key`.
    pub fn start_mutual(names: &[&str]) -> (Self, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let registry = Self::start_with(|directory| {
            let [authority, own, key] = certificates(names);
            let [ca, cert, own_key] = ["ca.crt", "client.cert", "client.key"];
            for (name, text) in [(ca, authority), (cert, own), (own_key, key)] {
                std::fs::create_dir_all(directory.join("certificates")).unwrap();
                std::fs::write(directory.join("certificates").join(name), text).unwrap();
            }
            let path = |name| {
                directory
                    .join("certificates")
                    .join(name)
                    .display()
                    .to_string()
            };
            let (ca, cert, key) = (path(ca), path(cert), path(own_key));
            format!("  tls: {{certificate: '{cert}', key: '{key}', clientcas: ['{ca}']}}\n")
        });
        let certificates = registry.directory.path().join("certificates");
        (registry, certificates)
    }

    /// Starts a registry whose configuration ends in these lines; its `http` section is the last.
    fn start_with(further: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let further = further(directory.path());
        configure(directory.path(), address, &further);
        let child = spawn(directory.path());
        let registry = DockerRegistry {
            address,
            child,
            directory,
        };
        registry.wait();
        registry
    }

    fn wait(&self) {
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "docker-registry did not start"
            );
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

    /// The file that holds a blob.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self
            .directory
            .path()
            .join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Starts it again on the same port with what was pushed.
    pub fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.directory.path());
        self.wait();
    }

    /// Pushes a test image by skopeo; gives its reference.
    pub fn push(&self, image: &str, repository: &str) -> String {
        self.push_as(image, repository, &[])
    }

    /// The same with further words for skopeo.
    pub fn push_as(&self, image: &str, repository: &str, words: &[&str]) -> String {
        self.push_layout(&images::layout(image), repository, words)
    }

    /// Pushes the image of a layout directory; gives its reference.
    pub fn push_layout(&self, layout: &Path, repository: &str, words: &[&str]) -> String {
        let source = format!("oci:{}:latest", layout.display());
        let reference = format!("{}/{repository}:latest", self.host());
        let mut copy = Command::new("skopeo");
        copy.args([
            "copy",
            "-q",
            "--preserve-digests",
            "--dest-tls-verify=false",
        ]);
        run(copy
            .args(words)
            .args([&source, &format!("docker://{reference}")]));
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

fn configure(directory: &Path, address: SocketAddr, further: &str) {
    let storage = directory.join("storage");
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http:\n  addr: '{address}'\n{further}",
        storage.display()
    );
    std::fs::write(directory.join("config.yml"), text).unwrap();
}

/// PEM of an authority, of a certificate that it signed for these names, and of the latter's key.
fn certificates(names: Vec<String>) -> [String; 3] {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(parameters, key);
    let own_key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&own_key, &issuer)
        .unwrap();
    [authority.pem(), own.pem(), own_key.serialize_pem()]
}

fn spawn(directory: &Path) -> Child {
    Command::new("docker-registry")
        .arg("serve")
        .arg(directory.join("config.yml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Waits a little for another process.
#[expect(
    clippy::disallowed_methods,
    reason = "another process's progress has no event"
)]
pub fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits until `condition` holds; panics naming `what` after `limit`.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < limit,
            "waited {limit:?} in vain for {what}"
        );
        pause(10);
    }
}
