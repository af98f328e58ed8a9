//! The test images, made once for all test binaries by `tests/images/build.py`.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::run;

/// The OCI layout directory of a test image.
pub fn layout(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(build).join(name);
    assert!(directory.is_dir(), "no test image {name}");
    directory
}

/// Builds what is missing; a lock keeps other test binaries waiting meanwhile.
fn build() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = project.join("tests/images/build.py");
    let age = std::fs::metadata(&script)
        .and_then(|m| m.modified())
        .unwrap();
    let stamp = age.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // Another script makes other images: the stamp keeps the old ones from being taken for them.
    let directory = project.join("target").join(format!("test-images-{stamp}"));
    std::fs::create_dir_all(&directory).unwrap();
    let lock = File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    run(Command::new("python3").arg(script).arg(&directory));
    directory
}

/// The image as `umoci unpack` lays it out: what a mounted tree must equal. Made once, beside
/// the images.
pub fn unpacked(name: &str) -> PathBuf {
    let layout = layout(name);
    let below = layout.parent().unwrap();
    let bundle = below.join(format!("{name}-unpacked"));
    let lock = File::create(below.join("lock")).unwrap();
    lock.lock().unwrap();
    if !bundle.exists() {
        let part = below.join(format!("{name}-unpacked.part"));
        let _ = std::fs::remove_dir_all(&part);
        let image = format!("{}:latest", layout.display());
        run(Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&part));
        std::fs::rename(&part, &bundle).unwrap();
    }
    bundle.join("rootfs")
}

/// The blobs of an image's layers from the bottom up: digest and file.
pub fn layer_blobs(name: &str) -> Vec<(String, PathBuf)> {
    let layout = layout(name);
    let json = |path: PathBuf| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let blob = |digest: &serde_json::Value| {
        let digest = digest.as_str().unwrap().to_owned();
        let path = layout.join("blobs").join(digest.replace(':', "/"));
        (digest, path)
    };
    let index = json(layout.join("index.json"));
    let manifest = json(blob(&index["manifests"][0]["digest"]).1);
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| blob(&layer["digest"])).collect()
}

/// The directories that a layer of the image, of gzip layers, has an entry for.
pub fn named_directories(name: &str) -> BTreeSet<PathBuf> {
    let mut named = BTreeSet::new();
    for (_, blob) in layer_blobs(name) {
        let stream = flate2::read::MultiGzDecoder::new(File::open(blob).unwrap());
        for entry in tar::Archive::new(stream).entries().unwrap() {
            let entry = entry.unwrap();
            if entry.header().entry_type().is_dir() {
                named.insert(entry.path().unwrap().components().as_path().to_path_buf());
            }
        }
    }
    named
}
