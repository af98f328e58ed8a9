//! Images that containerd's CRI plugin pulls: their layers stay in the registry.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::cri::ImageService;
use super::daemon::{Daemon, LIMIT};
use super::support::containerd::{Containerd, brisk_runtime};
use super::support::images;
use super::support::node::{Node, mounts_below};
use super::support::registry::{DockerRegistry, until};
use super::support::tree::{assert_equal, walk};
use super::unpacker::{Image, Mounted};

/// Namespace of the CRI plugin.
const NAMESPACE: &str = "k8s.io";
/// Layers of the test image.
const LAYERS: usize = 5;
/// Nothing arrives unasked.
const STILL: &str = "[fetch]\nbackground = \"off\"\n";

/// A registry with an image, a node that serves it to a containerd.
struct Cluster {
    image: Image,
    images: ImageService,
    containerd: Containerd,
    daemon: Daemon,
    node: Node,
    registry: DockerRegistry,
}

impl Cluster {
    fn start(config: &str) -> Self {
        let registry = DockerRegistry::start();
        let reference = registry.push("zoo", "zoo");
        let image = Image::new(&images::layout("zoo"), &reference);
        let node = Node::with_config(config);
        let daemon = Daemon::start(&node);
        let containerd = Containerd::start_with_cri(&daemon.socket);
        let service = ImageService::connect(&containerd.socket());
        Cluster {
            image,
            images: service,
            containerd,
            daemon,
            node,
            registry,
        }
    }

    fn pull(&self) {
        if let Err(status) = self.images.pull(&self.image.reference) {
            panic!("{status}");
        }
    }

    fn top(&self) -> &str {
        self.image.chain_ids.last().unwrap()
    }

    /// Names and kinds of the snapshots.
    fn snapshots(&self) -> Vec<(String, String)> {
        let table = self.ctr(&["snapshots", "--snapshotter", "brisk", "ls"]);
        let rows = table.lines().skip(1).map(|line| {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default().to_owned();
            (first, words.last().unwrap_or_default().to_owned())
        });
        rows.collect()
    }

    /// Digests of what containerd's content store has.
    fn content(&self) -> BTreeSet<String> {
        let list = self.ctr(&["content", "ls", "-q"]);
        list.lines().map(str::to_owned).collect()
    }

    fn ctr(&self, words: &[&str]) -> String {
        let mut all = vec!["-n", NAMESPACE];
        all.extend(words);
        self.containerd.ctr(&all)
    }

    /// Compares the tree of a snapshot on the image with the unpacked image, but for these names.
    fn assert_tree(&self, but: &[&str]) {
        let prepare = [
            "snapshots",
            "--snapshotter",
            "brisk",
            "prepare",
            "look",
            self.top(),
        ];
        self.ctr(&prepare);
        let place = self.node.directory("look");
        let target = place.to_str().unwrap();
        let command = self.ctr(&[
            "snapshots",
            "--snapshotter",
            "brisk",
            "mounts",
            target,
            "look",
        ]);
        super::support::run(std::process::Command::new("sh").args(["-ec", &command]));
        let look = Mounted(place);
        let timed = images::named_directories("zoo");
        let [mut ours, mut expected] =
            [&look.0, &images::unpacked("zoo")].map(|root| walk(root, &timed));
        for name in but {
            assert!(ours.remove(Path::new(name)).is_some());
            expected.remove(Path::new(name));
        }
        assert_equal(&ours, &expected);
        drop(look);
        self.ctr(&["snapshots", "--snapshotter", "brisk", "rm", "look"]);
    }

    fn run(&self, words: &[&str]) -> String {
        let name = self.containerd.name();
        let id = format!("{name}-c");
        // Below the cgroup that goes with this containerd, whatever the namespace.
        let cgroup = format!("/{name}/{id}");
        let mut all = vec!["run", "--rm", "--snapshotter", "brisk", "--cgroup", &cgroup];
        all.extend(words);
        let program = ["/bin/sh", "-c", "echo hello >/w && cat /w"];
        all.extend([self.image.reference.as_str(), &id]);
        all.extend(program);
        self.ctr(&all)
    }

    /// Removes the image and waits until nothing of it is left on the node.
    fn assert_everything_is_freed(&self) {
        self.images.remove(&self.image.reference);
        let root = self.node.root();
        until("everything's being freed", LIMIT, || {
            self.snapshots().is_empty() && left(&root).is_empty()
        });
    }
}

/// What is left below a root that holds content, mounts or what is known of an image.
fn left(root: &Path) -> Vec<PathBuf> {
    let mut left = mounts_below(root);
    for directory in [
        "snapshotter/snapshots",
        "snapshotter/removed",
        "snapshotter/images",
        "mounts",
        "blobs/sha256",
        "indexes/merged",
    ] {
        left.extend(entries(&root.join(directory)));
    }
    for directory in ["layers", "indexes"] {
        for scope in ["trusted", "untrusted"] {
            left.extend(files(&root.join(directory).join(scope)));
        }
    }
    left
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(directory).into_iter().flatten();
    read.map(|entry| entry.unwrap().path()).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let (directories, mut found): (Vec<_>, Vec<_>) = entries(directory)
        .into_iter()
        .partition(|path| path.is_dir());
    found.extend(directories.iter().flat_map(|d| files(d)));
    found
}

#[test]
fn an_image_with_an_index_runs_before_it_has_arrived() {
    let cluster = Cluster::start(STILL);
    Node::new().brisk(&["index", "push", &cluster.image.reference]);
    cluster.pull();

    let there = cluster.snapshots();
    let expected: BTreeSet<_> = cluster.image.chain_ids.iter().cloned().collect();
    let names: BTreeSet<_> = there.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, expected);
    assert!(
        there.iter().all(|(_, kind)| kind == "Committed"),
        "{there:?}"
    );
    let content = cluster.content();
    assert_eq!(content.len(), 2, "manifest and config: {content:?}");
    assert!(content.contains(&cluster.image.manifest));
    let status = cluster.node.status();
    let (counters, mut layer_bytes) = (status["counters"].as_object().unwrap(), 0);
    for (name, value) in counters.iter().filter(|(n, _)| n.ends_with("_bytes")) {
        if name != "metadata_bytes" {
            assert_eq!(*value, 0, "{status}");
            layer_bytes += 1;
        }
    }
    assert!(layer_bytes >= 3, "{status}");
    // Mounted once, in the background, for all containers to come.
    until("the image's mount", LIMIT, || {
        cluster.node.status()["mounts"].as_array().unwrap().len() == 1
    });

    assert_eq!(cluster.run(&[]), "hello\n");
    let fetched = |cluster: &Cluster| {
        let status = cluster.node.status();
        status["counters"]["demand_bytes"].as_u64().unwrap()
    };
    let size: u64 = images::layer_blobs("zoo")
        .iter()
        .map(|(_, file)| std::fs::metadata(file).unwrap().len())
        .sum();
    assert!((1..size).contains(&fetched(&cluster)), "not lazy");
    let runtime = brisk_runtime();
    let words = ["--runc-binary", runtime.to_str().unwrap()];
    assert_eq!(cluster.run(&words), "hello\n");
    cluster.assert_tree(&[]);
    assert_eq!(cluster.snapshots().len(), LAYERS, "containers' are gone");
    let mounts = cluster.node.status()["mounts"].as_array().unwrap().len();
    assert_eq!(mounts, 1, "shared by all");
    cluster.assert_everything_is_freed();
    drop(cluster.daemon);
}

#[test]
fn an_image_without_an_index_is_pulled_whole_by_brisk() {
    let cluster = Cluster::start(STILL);
    cluster.pull();
    assert_eq!(cluster.snapshots().len(), LAYERS);
    assert_eq!(cluster.content().len(), 2);
    cluster.assert_tree(&[]);
    let status = cluster.node.status();
    let layers = status["mounts"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), LAYERS, "{status}");
    assert!(
        layers.iter().all(|l| l["index"]["source"] == "built"),
        "{status}"
    );
    cluster.assert_everything_is_freed();
}

#[test]
fn layers_above_one_without_an_index_are_containerds_where_that_is_wanted() {
    let policy = "[snapshotter]\nwithout_index = \"containerd\"\n";
    let cluster = Cluster::start(&format!("{STILL}{policy}"));
    // The lowest three layers are known here, from another image.
    let lower = lower_layers(&images::layout("zoo"), 3);
    let other = cluster.registry.push_layout(lower.path(), "other", &[]);
    cluster.node.brisk(&["pull", &other]);
    cluster.pull();

    assert_eq!(cluster.snapshots().len(), LAYERS);
    let content = cluster.content();
    let fetched: Vec<bool> = cluster
        .image
        .layers
        .iter()
        .map(|l| content.contains(l))
        .collect();
    assert_eq!(fetched, [false, false, false, true, true]);
    // containerd gives a file the mode of a link to it.
    cluster.assert_tree(&["implicit/hard", "implicit/parent/fifo"]);
    assert_eq!(cluster.run(&[]), "hello\n");
}

/// A layout with an image of the lowest layers of another one.
fn lower_layers(layout: &Path, count: usize) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    super::support::run(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(layout.join("."))
            .arg(place.path()),
    );
    let store = |value: &serde_json::Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = index_format::Digest::of(&bytes);
        let blob = place.path().join("blobs/sha256").join(digest.hex());
        std::fs::write(blob, &bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let load = |digest: &serde_json::Value| -> serde_json::Value {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = place.path().join("blobs/sha256").join(hex);
        serde_json::from_slice(&std::fs::read(blob).unwrap()).unwrap()
    };
    let path = place.path().join("index.json");
    let mut index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut manifest = load(&index["manifests"][0]["digest"]);
    let mut config = load(&manifest["config"]["digest"]);
    let cut = |list: &mut serde_json::Value| list.as_array_mut().unwrap().truncate(count);
    cut(&mut manifest["layers"]);
    cut(&mut config["rootfs"]["diff_ids"]);
    config.as_object_mut().unwrap().remove("history");
    let (digest, size) = store(&config);
    manifest["config"]["digest"] = digest.into();
    manifest["config"]["size"] = size.into();
    let (digest, size) = store(&manifest);
    index["manifests"][0]["digest"] = digest.into();
    index["manifests"][0]["size"] = size.into();
    std::fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
    place
}
