//! Real images, as `bench/images/mkimg.py` makes them: a lazy start from a real registry says
//! what the same program says under runc on the unpacked image.
//!
//! `make check-python` and `make check-redis` make the images, which needs the network, and run
//! these tests with `BRISK_LAYOUT` naming the layout directory. Needs root, /dev/fuse,
//! docker-registry, skopeo, umoci and runc.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use bench::layout::Layout;
use support::done;
use support::link::ShapedLink;
use support::node::Node;
use support::registry::DockerRegistry;

/// The image of the check, in a directory that the environment names.
fn layout() -> PathBuf {
    let named = std::env::var_os("BRISK_LAYOUT");
    PathBuf::from(named.expect("BRISK_LAYOUT names no layout directory; `make check-python` does"))
}

/// What a lazy start said and fetched.
struct LazyStart {
    ready: String,
    /// Bytes from the registry: headers, manifests, index and content.
    fetched: u64,
    /// The service's counters.
    counters: serde_json::Value,
}

/// `brisk run --background off` of the image's program on an empty root, from docker-registry
/// through a relay on loopback that counts.
fn lazy_start(layout: &Path) -> LazyStart {
    let registry = DockerRegistry::start();
    let pushed = registry.push_layout(layout, "bench/image", &[]);
    Node::new().brisk(&["index", "push", &pushed]);
    let link = ShapedLink::start(registry.address(), 0, 10_000);
    let node = Node::new();
    let image = format!("{}/bench/image:latest", link.host());
    let ran = done(&node.command(["run", "--rm", "--background", "off", &image]));
    assert_eq!(ran.code, 0, "{ran:?}");
    LazyStart {
        ready: ready_line(&ran.out),
        fetched: link.fetched(),
        counters: node.status()["counters"].clone(),
    }
}

/// The last line, which begins with READY.
fn ready_line(output: &str) -> String {
    let line = output.lines().last().unwrap_or_default();
    assert!(line.starts_with("READY "), "no READY line in: {output}");
    line.to_owned()
}

/// All but the last field of a line.
fn without_last_field(line: &str) -> &str {
    line.rsplit_once(' ').unwrap().0
}

/// An image unpacked by umoci, whose program runc runs; dropping it removes everything.
struct Bundle {
    directory: tempfile::TempDir,
}

impl Bundle {
    fn unpack(layout: &Path) -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let image = format!("{}:latest", layout.display());
        let bundle = Bundle { directory };
        support::run(
            Command::new("umoci")
                .args(["unpack", "--image", &image])
                .arg(bundle.path()),
        );
        let config = bundle.path().join("config.json");
        let mut spec: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        spec["process"]["terminal"] = false.into();
        std::fs::write(&config, spec.to_string()).unwrap();
        bundle
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    /// A runc command with state of its own.
    fn runc(&self) -> Command {
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(self.directory.path().join("state"));
        runc
    }

    /// Name of the container: like its directory, nobody else's.
    fn container(&self) -> String {
        let name = self.directory.path().file_name().unwrap();
        format!("brisk-check{}", name.to_str().unwrap().replace('.', "-"))
    }

    /// The READY line of the image's program.
    fn ready(&self) -> String {
        let mut run = self.runc();
        run.args(["run", "--bundle"]).arg(self.path());
        let ran = done(run.arg(self.container()));
        assert_eq!(ran.code, 0, "{ran:?}");
        ready_line(&ran.out)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self
            .runc()
            .args(["delete", "--force", &self.container()])
            .output();
    }
}

/// Runs the image both ways; prints and returns the lazy start and runc's line.
fn both_ways(layout: &Path) -> (LazyStart, String) {
    let lazy = lazy_start(layout);
    let unpacked = Bundle::unpack(layout).ready();
    let size = Layout::open(layout).unwrap().size();
    println!("brisk run: {}", lazy.ready);
    println!("runc:      {unpacked}");
    println!(
        "fetched {} of {size} bytes, {:.1} %",
        lazy.fetched,
        lazy.fetched as f64 * 100.0 / size as f64
    );
    println!("counters: {}", lazy.counters);
    assert_eq!(lazy.counters["background_bytes"], 0);
    assert_eq!(lazy.counters["verification_failures"], 0);
    (lazy, unpacked)
}

#[test]
#[ignore = "makes its image from the network: make check-python"]
fn python() {
    let layout = layout();
    let (lazy, unpacked) = both_ways(&layout);
    // The last field is a time.
    assert_eq!(
        without_last_field(&lazy.ready),
        without_last_field(&unpacked)
    );
    assert!(lazy.ready.contains(" 41.0 "), "{}", lazy.ready);
    let size = Layout::open(&layout).unwrap().size();
    assert!(
        lazy.fetched * 100 < size * 40,
        "fetched {} of {size}",
        lazy.fetched
    );
}

#[test]
#[ignore = "makes its image from the network: make check-redis"]
fn redis() {
    let (lazy, unpacked) = both_ways(&layout());
    assert_eq!(lazy.ready, unpacked);
    assert_eq!(lazy.ready, "READY OK 1");
}
