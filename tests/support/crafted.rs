//! Images made byte by byte, as no writer of images makes them.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Media type of a layer in gzip.
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Media type of a layer in zstd.
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// `sha256:` and the digest.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// Bytes in gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar of one entry, whose name is not looked at.
pub fn tar_of(name: &[u8], kind: tar::EntryType, link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

/// A layout directory; what is put into it need not fit together.
pub struct Layout<'a> {
    pub directory: &'a Path,
}

impl Layout<'_> {
    /// Writes a blob; gives its digest.
    pub fn blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let path = self.directory.join("blobs").join(digest.replace(':', "/"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        digest
    }

    /// Makes these bytes the manifest of the layout; gives the reference.
    pub fn finish(&self, manifest: &[u8]) -> String {
        let digest = self.blob(manifest);
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest, "size": manifest.len(),
            "platform": {"os": "linux", "architecture": "amd64"},
            "annotations": {"org.opencontainers.image.ref.name": "latest"}}]});
        std::fs::write(self.directory.join("index.json"), index.to_string()).unwrap();
        let version = json!({"imageLayoutVersion": "1.0.0"}).to_string();
        std::fs::write(self.directory.join("oci-layout"), version).unwrap();
        format!("oci:{}:latest", self.directory.display())
    }

    /// An image of one layer, whose stream has the diff ID that is claimed.
    pub fn image(&self, layer: &[u8], media_type: &str, diff_id: &str) -> String {
        self.image_of(&[(layer, media_type, diff_id)])
    }

    /// An image of layers from the bottom up: bytes, media type, and the diff ID that is claimed.
    pub fn image_of(&self, layers: &[(&[u8], &str, &str)]) -> String {
        let diff_ids: Vec<&str> = layers.iter().map(|(_, _, diff_id)| *diff_id).collect();
        let config = json!({"os": "linux", "architecture": "amd64",
            "config": {"Cmd": ["true"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string();
        let layers: Vec<_> = layers
            .iter()
            .map(|(layer, media_type, _)| {
                json!({"mediaType": media_type, "digest": self.blob(layer), "size": layer.len()})
            })
            .collect();
        let manifest = json!({"schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.blob(config.as_bytes()), "size": config.len()},
            "layers": layers});
        self.finish(manifest.to_string().as_bytes())
    }

    /// An image of one tar in gzip.
    pub fn image_of_tar(&self, tar: &[u8]) -> String {
        self.image(&gzip(tar), GZIP, &digest(tar))
    }
}
