//! containerd's unpacker as a snapshotter sees it: the same calls in the same order with the same
//! labels, layer by layer, without containerd.

use std::path::{Path, PathBuf};
use std::process::Command;

use brisk_snapshotter::wire::services::snapshots::v1 as api;
use brisk_snapshotter::wire::services::snapshots::v1::snapshots_client::SnapshotsClient;
use brisk_snapshotter::wire::types::Mount;
use index_format::Digest;
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::channel::{channel, wait};
use super::support::run;

/// Which client's labels are sent.
#[derive(Clone, Copy)]
pub enum Family {
    /// containerd's CRI plugin, its transfer service, nerdctl.
    Cri,
    /// ctr-remote.
    Stargz,
}

/// An image as the unpacker knows it.
pub struct Image {
    pub reference: String,
    pub manifest: String,
    pub layers: Vec<String>,
    pub chain_ids: Vec<String>,
}

impl Image {
    /// The image of a layout directory, pushed under that reference.
    pub fn new(layout: &Path, reference: &str) -> Self {
        let blob = |digest: &Value| {
            let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
            json(&layout.join("blobs/sha256").join(hex))
        };
        let digest = json(&layout.join("index.json"))["manifests"][0]["digest"].clone();
        let manifest = blob(&digest);
        let config = blob(&manifest["config"]["digest"]);
        let mut chain_ids: Vec<String> = Vec::new();
        for diff_id in config["rootfs"]["diff_ids"].as_array().unwrap() {
            let diff_id = diff_id.as_str().unwrap();
            chain_ids.push(match chain_ids.last() {
                None => diff_id.to_owned(),
                Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()).to_string(),
            });
        }
        let layers = manifest["layers"].as_array().unwrap();
        let layer = |layer: &Value| layer["digest"].as_str().unwrap().to_owned();
        Image {
            reference: reference.to_owned(),
            manifest: digest.as_str().unwrap().to_owned(),
            layers: layers.iter().map(layer).collect(),
            chain_ids,
        }
    }

    fn labels(&self, family: Family, position: usize) -> Vec<(String, String)> {
        let layers = self.layers[position..].join(",");
        let layer = self.layers[position].clone();
        let own = match family {
            Family::Cri => vec![
                ("cri.image-ref", self.reference.clone()),
                ("cri.manifest-digest", self.manifest.clone()),
                ("cri.layer-digest", layer),
                ("cri.image-layers", layers),
            ],
            Family::Stargz => vec![
                ("remote/stargz.reference", self.reference.clone()),
                ("remote/stargz.digest", layer),
                ("remote/stargz.layers", layers),
            ],
        };
        let target = (
            "containerd.io/snapshot.ref".to_owned(),
            self.chain_ids[position].clone(),
        );
        let named = own.into_iter();
        let named = named.map(|(name, value)| (format!("containerd.io/snapshot/{name}"), value));
        named.chain([target]).collect()
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A client of the snapshotter, under a namespace of its own.
#[derive(Clone)]
pub struct Unpacker {
    client: SnapshotsClient<Channel>,
    namespace: String,
}

impl Unpacker {
    pub fn new(socket: &Path, namespace: &str) -> Self {
        Unpacker {
            client: SnapshotsClient::new(channel(socket)),
            namespace: namespace.to_owned(),
        }
    }

    /// Asks for every layer, as a pull does; gives the name of the topmost snapshot. Panics where
    /// a layer would have to be unpacked.
    pub fn pull(&mut self, image: &Image, family: Family) -> String {
        let mut parent = String::new();
        for position in 0..image.layers.len() {
            let found = self.ask(image, family, position, &parent).unwrap();
            parent = found.unwrap_or_else(|_| panic!("layer {position} is to be unpacked"));
        }
        parent
    }

    /// Asks for one layer: the name of its snapshot, or how to mount what is to be unpacked.
    pub fn ask(
        &mut self,
        image: &Image,
        family: Family,
        position: usize,
        parent: &str,
    ) -> Result<Result<String, Vec<Mount>>, Status> {
        let target = &image.chain_ids[position];
        let key = format!("{}/extract-{position} {target}", self.namespace);
        let labels = image.labels(family, position);
        match self.prepare_labelled(&key, parent, labels) {
            Ok(mounts) => Ok(Err(mounts)),
            Err(status) if status.code() == Code::AlreadyExists => {
                let filter =
                    format!("labels.\"containerd.io/snapshot.ref\"=={target},parent==\"{parent}\"");
                let found = self.list(&filter);
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!(found[0].kind(), api::Kind::Committed);
                let remote = &found[0].labels["containerd.io/snapshot/remote"];
                assert_eq!(remote, "remote snapshot");
                Ok(Ok(found[0].name.clone()))
            }
            Err(status) => Err(status),
        }
    }

    fn prepare_labelled(
        &mut self,
        key: &str,
        parent: &str,
        labels: Vec<(String, String)>,
    ) -> Result<Vec<Mount>, Status> {
        let request = api::PrepareSnapshotRequest {
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels.into_iter().collect(),
            ..Default::default()
        };
        Ok(wait(self.client.prepare(request))?.into_inner().mounts)
    }

    pub fn prepare(&mut self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        self.prepare_labelled(key, parent, Vec::new())
    }

    pub fn view(&mut self, key: &str, parent: &str) -> Vec<Mount> {
        let request = api::ViewSnapshotRequest {
            key: key.to_owned(),
            parent: parent.to_owned(),
            ..Default::default()
        };
        wait(self.client.view(request)).unwrap().into_inner().mounts
    }

    pub fn mounts(&mut self, key: &str) -> Result<Vec<Mount>, Status> {
        let request = api::MountsRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        Ok(wait(self.client.mounts(request))?.into_inner().mounts)
    }

    pub fn commit(&mut self, name: &str, key: &str) {
        let request = api::CommitSnapshotRequest {
            name: name.to_owned(),
            key: key.to_owned(),
            ..Default::default()
        };
        wait(self.client.commit(request)).unwrap();
    }

    pub fn remove(&mut self, key: &str) {
        let request = api::RemoveSnapshotRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        wait(self.client.remove(request)).unwrap();
    }

    pub fn usage(&mut self, key: &str) -> api::UsageResponse {
        let request = api::UsageRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        wait(self.client.usage(request)).unwrap().into_inner()
    }

    pub fn list(&mut self, filter: &str) -> Vec<api::Info> {
        let request = api::ListSnapshotsRequest {
            filters: vec![filter.to_owned()],
            ..Default::default()
        };
        wait(async {
            let mut answers = self.client.list(request).await.unwrap().into_inner();
            let mut found = Vec::new();
            while let Some(answer) = answers.message().await.unwrap() {
                found.extend(answer.info);
            }
            found
        })
    }

    /// Removes every snapshot, leaves first.
    pub fn remove_all(&mut self) {
        let mut left = self.list("");
        while !left.is_empty() {
            let is_leaf = |info: &api::Info| left.iter().all(|i| i.parent != info.name);
            let leaves: Vec<_> = left.iter().filter(|i| is_leaf(i)).cloned().collect();
            leaves.iter().for_each(|info| self.remove(&info.name));
            left = self.list("");
        }
    }
}

/// A snapshot's mounts at a directory; taken down when it is dropped.
pub struct Mounted(pub PathBuf);

impl Mounted {
    pub fn new(mounts: &[Mount], directory: PathBuf) -> Self {
        for mount in mounts {
            let options = mount.options.join(",");
            run(Command::new("mount")
                .args(["-t", &mount.r#type, "-o", &options, &mount.source])
                .arg(&directory));
        }
        Mounted(directory)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
