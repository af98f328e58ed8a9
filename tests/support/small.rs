//! An image of one uncompressed layer, small enough to forge indexes for it by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use brisk_image::artifact;
use brisk_image::sign::statement::{self, SIGNATURES_ANNOTATION};
use brisk_image::sign::{Signature, Statement};
use brisk_registry::{Client, ClientConfig, Reference};
use bytes::Bytes;
use index_format::{
    ChunkFlags, CompressedOffset, Compression, Digest, Features, FileData, LEAF_SIZE, LayerParts,
    NewChunk, Node, NodeContent, StreamOffset, Timestamp, Tree, wire, write,
};

use super::registry::DockerRegistry;
use super::run;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Path and content of the file that forged indexes lie about ...
pub const VICTIM: (&str, &[u8; 11]) = ("etc/secrets", b"the honest ");
/// ... and of the one whose content they put in its place.
pub const DECOY: (&str, &[u8; 11]) = ("opt/decoy", b"the forged ");

/// The image.
pub struct SmallImage {
    directory: tempfile::TempDir,
    stream: Vec<u8>,
    /// Where each regular file's content is in the stream.
    places: BTreeMap<String, u64>,
    manifest: Vec<u8>,
}

impl SmallImage {
    /// Makes the image; `name` makes its layer another one than that of other tests.
    pub fn new(name: &str) -> Self {
        let stream = tar_of(name);
        let mut archive = tar::Archive::new(&stream[..]);
        let mut places = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            places.insert(path, entry.raw_file_position());
        }
        let directory = tempfile::tempdir().unwrap();
        let manifest = lay_out(directory.path(), &stream);
        SmallImage {
            directory,
            stream,
            places,
            manifest,
        }
    }

    /// Digest of the image manifest.
    pub fn manifest_digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Digest of the layer, which is its diff ID as well.
    pub fn layer_digest(&self) -> Digest {
        Digest::of(&self.stream)
    }

    /// Pushes the image by skopeo; gives its reference by tag.
    pub fn push(&self, registry: &DockerRegistry, repository: &str) -> String {
        let reference = format!("{}/{repository}:latest", registry.host());
        let source = format!("oci:{}:latest", self.directory.path().display());
        let target = format!("docker://{reference}");
        run(Command::new("skopeo").args([
            "copy",
            "-q",
            "--preserve-digests",
            "--dest-tls-verify=false",
            &source,
            &target,
        ]));
        reference
    }

    /// An index that agrees with the layer in everything but what it shows as [`VICTIM`].
    pub fn forged_index(&self) -> Vec<u8> {
        let mut tree = Tree::new();
        let regular = |place: &str| Node {
            permissions: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Vec::new(),
            content: NodeContent::Regular {
                size: VICTIM.1.len() as u64,
                data: FileData::Whole(StreamOffset(self.places[place])),
            },
        };
        tree.insert(VICTIM.0.as_bytes(), regular(DECOY.0)).unwrap();
        tree.insert(DECOY.0.as_bytes(), regular(DECOY.0)).unwrap();
        let chunk = NewChunk {
            stream_start: StreamOffset(0),
            compressed_start: CompressedOffset(0),
            compressed_end: None,
            bit: 0,
            flags: ChunkFlags::FREE,
            checkpoint: Vec::new(),
        };
        let leaves = self.stream.chunks(LEAF_SIZE as usize).map(Digest::of);
        let size = self.stream.len() as u64;
        write(&LayerParts {
            layer_digest: self.layer_digest(),
            diff_id: self.layer_digest(),
            compression: Compression::None,
            features: Features::default(),
            compressed_size: size,
            stream_size: size,
            tree: &tree,
            chunks: &[chunk],
            leaves: &leaves.collect::<Vec<_>>(),
            headers: &[],
        })
        .unwrap()
    }

    /// Attaches an index to the image in the repository of `reference`, `change` having changed
    /// its hot part on the network; gives the digest of the artifact.
    pub fn attach(&self, reference: &str, index: &[u8], change: impl Fn(&mut Vec<u8>)) -> Digest {
        let identity = index_format::Index::open(index.to_vec()).unwrap().digest();
        let mut wire = wire::encode(index).unwrap();
        change(&mut wire.hot);
        let subject = (
            self.manifest_digest(),
            self.manifest.len() as u64,
            MANIFEST_TYPE,
        );
        let layer = (self.layer_digest(), identity, wire);
        let artifact = artifact::encode(subject, &[layer], &[]).unwrap();
        push_artifact(reference, vec![artifact.blob], artifact.manifest)
    }

    /// Attaches an index with these signatures.
    pub fn attach_signed(&self, reference: &str, index: &[u8], signatures: &[Signature]) -> Digest {
        let artifact = self.artifact(index);
        let signatures = statement::to_annotation(signatures).unwrap();
        let artifact = artifact.annotated(SIGNATURES_ANNOTATION, &signatures);
        let artifact = artifact.unwrap();
        push_artifact(reference, vec![artifact.blob], artifact.manifest)
    }

    /// Pushes another image of the same layer, whose manifest names this index; gives its
    /// manifest's digest.
    pub fn push_bound(&self, reference: &str, index: &[u8]) -> Digest {
        let artifact = self.artifact(index);
        let manifest =
            artifact::annotate(&self.manifest, artifact::TABLE_ANNOTATION, &artifact.table);
        let manifest = Bytes::from(manifest.unwrap());
        let reference = Reference::from_str(reference).unwrap();
        let repository = reference.repository();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let client = Client::new(ClientConfig::default());
            let blob = Bytes::from(artifact.blob);
            client.upload_blob(repository, blob).await.unwrap();
            let target = reference.target();
            let put = client.put_manifest(repository, &target, MANIFEST_TYPE, manifest);
            put.await.unwrap().0
        })
    }

    /// What a signature of an index of this image's layer says.
    pub fn statement(&self, index: &[u8]) -> Statement {
        Statement {
            image: self.manifest_digest(),
            layer: self.layer_digest(),
            diff_id: self.layer_digest(),
            index: index_format::Index::open(index.to_vec()).unwrap().digest(),
        }
    }

    fn artifact(&self, index: &[u8]) -> artifact::Artifact {
        let identity = index_format::Index::open(index.to_vec()).unwrap().digest();
        let wire = wire::encode(index).unwrap();
        let size = self.manifest.len() as u64;
        let subject = (self.manifest_digest(), size, MANIFEST_TYPE);
        artifact::encode(subject, &[(self.layer_digest(), identity, wire)], &[]).unwrap()
    }

    /// Attaches an artifact without a table of ranges.
    pub fn attach_without_table(&self, reference: &str) -> Digest {
        let digest = Digest::of(artifact::EMPTY_CONFIG).to_string();
        let size = artifact::EMPTY_CONFIG.len();
        let empty = |media_type: &str| serde_json::json!({ "mediaType": media_type, "digest": digest, "size": size });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": artifact::ARTIFACT_TYPE,
            "config": empty("application/vnd.oci.empty.v1+json"),
            "layers": [empty(artifact::BLOB_TYPE)],
            "subject": {
                "mediaType": MANIFEST_TYPE,
                "digest": self.manifest_digest().to_string(),
                "size": self.manifest.len(),
            },
        });
        push_artifact(
            reference,
            Vec::new(),
            serde_json::to_vec(&manifest).unwrap(),
        )
    }
}

fn push_artifact(reference: &str, blobs: Vec<Vec<u8>>, manifest: Vec<u8>) -> Digest {
    let reference = Reference::from_str(reference).unwrap();
    let repository = reference.repository();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::new(ClientConfig::default());
        let empty = Bytes::from_static(artifact::EMPTY_CONFIG);
        for blob in blobs.into_iter().map(Bytes::from).chain([empty]) {
            client.upload_blob(repository, blob).await.unwrap();
        }
        let manifest = Bytes::from(manifest);
        let pushed = client.push_referrer(repository, MANIFEST_TYPE, manifest);
        pushed.await.unwrap()
    })
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Whatever must change nothing on the host: set-user-ID, devices, overlayfs's own marks.
fn tar_of(name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut file = |path: &str, mode: u32, content: &[u8]| {
        let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
        tar.append_data(&mut header, path, content).unwrap();
    };
    file(VICTIM.0, 0o644, VICTIM.1);
    file(DECOY.0, 0o644, DECOY.1);
    file("name", 0o644, name.as_bytes());
    file("bin/setuid", 0o4755, b"#!/bin/sh\n");
    file("large", 0o644, &b"content of some size\n".repeat(20_000));
    for (path, major, minor) in [("dev/zero", 1, 5), ("dev/whiteout", 0, 0)] {
        let mut header = header(tar::EntryType::Char, 0o666, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        tar.append_data(&mut header, path, &b""[..]).unwrap();
    }
    let marks: [(&str, &[u8]); 4] = [
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.kept", b"yes"),
    ];
    tar.append_pax_extensions(marks).unwrap();
    let mut header = header(tar::EntryType::Directory, 0o755, 0);
    tar.append_data(&mut header, "marked/", &b""[..]).unwrap();
    tar.into_inner().unwrap()
}

fn lay_out(directory: &Path, stream: &[u8]) -> Vec<u8> {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        let digest = digest.to_string();
        serde_json::json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let layer = blob(LAYER_TYPE, stream);
    let diff_ids = [Digest::of(stream).to_string()];
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config_type = "application/vnd.oci.image.config.v1+json";
    let config = blob(config_type, &serde_json::to_vec(&config).unwrap());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": [layer],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut described = blob(MANIFEST_TYPE, &manifest);
    described["platform"] = serde_json::json!({ "architecture": "amd64", "os": "linux" });
    described["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [described] });
    let layout = serde_json::json!({ "imageLayoutVersion": "1.0.0" });
    for (name, document) in [("index.json", index), ("oci-layout", layout)] {
        std::fs::write(directory.join(name), document.to_string()).unwrap();
    }
    manifest
}
