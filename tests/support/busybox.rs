//! A tree that holds Debian's static busybox and nothing else.

use std::path::Path;

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
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
}
