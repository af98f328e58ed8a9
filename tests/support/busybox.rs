//! A tree and an image that hold Debian's static busybox and nothing else.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use index_format::Digest;

use super::run;

/// Names by which programs of the tests call busybox.
const APPLETS: &[&str] = &[
    "cat", "echo", "env", "head", "hostname", "id", "ip", "kill", "ls", "ping", "sh", "sleep",
    "stty", "test", "tr", "true", "tty",
];

/// Lays the tree out below an empty or missing directory.
pub fn lay_out(directory: &Path) {
    let bin = directory.join("bin");
    for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
        std::fs::create_dir_all(directory.join(name)).unwrap();
    }
    let everyones = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(directory.join("tmp"), everyones).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
}

/// Writes an archive in the form of `docker save` to a file: one image of that name, one layer
/// with the tree, whose program sleeps until it is killed.
pub fn save_image(name: &str, archive: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    lay_out(&tree);
    let layer = directory.path().join("layer.tar");
    run(Command::new("tar")
        .arg("-C")
        .arg(&tree)
        .arg("-cf")
        .arg(&layer)
        .arg("."));
    let diff_id = Digest::of(&std::fs::read(&layer).unwrap()).to_string();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }
    ]);
    for (name, document) in [("config.json", config), ("manifest.json", manifest)] {
        std::fs::write(directory.path().join(name), document.to_string()).unwrap();
    }
    run(Command::new("tar")
        .arg("-C")
        .arg(directory.path())
        .arg("-cf")
        .arg(archive)
        .args(["config.json", "manifest.json", "layer.tar"]));
}
