//! What a failure must not leave behind.

use std::path::Path;
use std::time::Duration;

use crate::support::node::{Node, mounts_below};
use crate::support::registry::until;
use crate::support::{Done, done};

/// Runs it and checks what every failure has in common.
pub fn fails(node: &Node, words: &[&str], code: i32) -> Done {
    let failed = done(&node.command(words));
    assert_eq!(failed.code, code, "{words:?}: {failed:?}");
    assert_eq!(failed.out, "", "{words:?}: {failed:?}");
    assert!(failed.err.contains("brisk: "), "{words:?}: {failed:?}");
    assert!(!failed.err.contains("panicked"), "{words:?}: {failed:?}");
    failed
}

/// Fails by `run`, `mount` and `pull`, each time with these words and without a trace.
pub fn fails_everywhere(node: &Node, image: &str, words: &[&str]) {
    let directory = node.directory("empty");
    let mount = ["mount", image, directory.to_str().unwrap()];
    let attempts: [(&[&str], i32); 4] = [
        (&["run", image, "true"], 125),
        (&["run", "-d", image, "true"], 125),
        (&mount, 1),
        (&["pull", image], 1),
    ];
    for (attempt, code) in attempts {
        let failed = fails(node, attempt, code);
        for word in words {
            assert!(
                failed.err.contains(word),
                "{attempt:?}: {word} in {failed:?}"
            );
        }
        is_clean(node);
    }
}

/// No mount, no container, no half-written file.
pub fn is_clean(node: &Node) {
    let root = node.root();
    until("the end of mounts", Duration::from_secs(20), || {
        mounts_below(root.parent().unwrap()).is_empty()
    });
    until(
        "the end of their directories",
        Duration::from_secs(20),
        || entries(&root.join("mounts")).is_empty(),
    );
    let containers = entries(&root.join("containers"));
    assert!(
        containers.is_empty() || containers == ["names"],
        "{containers:?}"
    );
    assert!(entries(&root.join("containers/names")).is_empty());
}

/// Whether the root has an index of a layer that it trusts.
pub fn has_trusted_index(node: &Node, layer: &str) -> bool {
    let hex = layer.strip_prefix("sha256:").unwrap();
    entries(&node.root().join("indexes/trusted"))
        .iter()
        .any(|name| name.contains(hex))
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}
