//! The test images, made once for all test binaries by `tests/images/build.py`.

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
    let age = std::fs::metadata(&script).and_then(|m| m.modified()).unwrap();
    let stamp = age.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // Another script makes other images: the stamp keeps the old ones from being taken for them.
    let directory = project.join("target").join(format!("test-images-{stamp}"));
    std::fs::create_dir_all(&directory).unwrap();
    let lock = File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    run(Command::new("python3").arg(script).arg(&directory));
    directory
}

/// The image as `umoci unpack` lays it out: what a mounted tree must equal.
pub fn unpacked(name: &str, below: &Path) -> PathBuf {
    let bundle = below.join(format!("{name}-unpacked"));
    if !bundle.exists() {
        let image = format!("{}:latest", layout(name).display());
        run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle));
    }
    bundle.join("rootfs")
}
