//! Images that were made to harm, or by a broken program.

use serde_json::json;

use crate::support::crafted::{GZIP, Layout, digest, gzip, tar_of};
use crate::support::node::Node;
use crate::traces::{fails_everywhere, has_trusted_index};

#[test]
fn paths_that_leave_the_layer() {
    for name in [&b"../evil"[..], b"a/../../evil", b"/../evil", b".."] {
        let node = Node::new();
        let directory = node.directory("layout");
        let tar = tar_of(name, tar::EntryType::Regular, b"", b"evil");
        let image = Layout {
            directory: &directory,
        }
        .image_of_tar(&tar);
        let layer = digest(&gzip(&tar));
        fails_everywhere(&node, &image, &[&layer, ".."]);
        assert!(!has_trusted_index(&node, &layer));
        assert!(!node.path("evil").exists());
    }
    let node = Node::new();
    let directory = node.directory("layout");
    let tar = tar_of(b"link", tar::EntryType::Link, b"../../etc/passwd", b"");
    let image = Layout {
        directory: &directory,
    }
    .image_of_tar(&tar);
    fails_everywhere(&node, &image, &[&digest(&gzip(&tar)), ".."]);
}

#[test]
fn absolute_paths_and_links_stay_inside() {
    let node = Node::new();
    let directory = node.directory("layout");
    let tar = tar_of(
        b"/etc/inside",
        tar::EntryType::Regular,
        b"",
        b"in the image",
    );
    let image = Layout {
        directory: &directory,
    }
    .image_of_tar(&tar);
    let tree = node.mount(&[&image], "tree");
    assert_eq!(
        std::fs::read(tree.join("etc/inside")).unwrap(),
        b"in the image"
    );
    assert!(!std::path::Path::new("/etc/inside").exists());

    let loops = node.directory("loops");
    let tar = tar_of(b"loop", tar::EntryType::Symlink, b"loop", b"");
    let image = Layout { directory: &loops }.image_of_tar(&tar);
    let tree = node.mount(&[&image], "looping-tree");
    let error = std::fs::metadata(tree.join("loop")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::ELOOP));
}

#[test]
fn layers_that_are_no_tar() {
    let random: Vec<u8> = (0..5000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let cut = {
        let mut tar = tar_of(b"file", tar::EntryType::Regular, b"", &random);
        tar.truncate(2000);
        tar
    };
    for stream in [random, cut] {
        let node = Node::new();
        let directory = node.directory("layout");
        let image = Layout {
            directory: &directory,
        }
        .image_of_tar(&stream);
        fails_everywhere(&node, &image, &[&digest(&gzip(&stream))]);
    }
}

#[test]
fn layers_that_are_not_what_the_config_says() {
    let node = Node::new();
    let directory = node.directory("layout");
    let layout = Layout {
        directory: &directory,
    };
    let tar = tar_of(b"file", tar::EntryType::Regular, b"", b"content");
    let layer = gzip(&tar);
    let image = layout.image(&layer, GZIP, &digest(b"another"));
    fails_everywhere(
        &node,
        &image,
        &[&digest(&layer), "diff ID", &digest(b"another")],
    );
    assert!(!has_trusted_index(&node, &digest(&layer)));
}

#[test]
fn layers_of_an_unknown_kind() {
    let node = Node::new();
    let directory = node.directory("layout");
    let layout = Layout {
        directory: &directory,
    };
    let image = layout.image(b"{}", "application/vnd.example.model", &digest(b"{}"));
    fails_everywhere(&node, &image, &["application/vnd.example.model"]);
}

#[test]
fn manifests_that_are_none() {
    let node = Node::new();
    for (number, (manifest, said)) in [
        ("{ not json".to_owned(), "manifest"),
        ("[]".to_owned(), "manifest"),
        (json!({"schemaVersion": 2}).to_string(), "manifest"),
        (
            json!({"schemaVersion": 1, "fsLayers": []}).to_string(),
            "manifest",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let directory = node.directory(&format!("layout{number}"));
        let image = Layout {
            directory: &directory,
        }
        .finish(manifest.as_bytes());
        fails_everywhere(&node, &image, &[&format!("layout{number}"), said]);
    }
}

#[test]
fn configs_that_are_none() {
    let node = Node::new();
    let directory = node.directory("layout");
    let layout = Layout {
        directory: &directory,
    };
    let tar = tar_of(b"file", tar::EntryType::Regular, b"", b"content");
    let layer = gzip(&tar);
    let manifest = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": layout.blob(b"[1, 2"), "size": 5},
        "layers": [{"mediaType": GZIP, "digest": layout.blob(&layer), "size": layer.len()}]});
    let image = layout.finish(manifest.to_string().as_bytes());
    fails_everywhere(&node, &image, &["config"]);
}

#[test]
fn an_image_without_a_command() {
    let node = Node::new();
    let directory = node.directory("layout");
    let tar = tar_of(b"file", tar::EntryType::Regular, b"", b"content");
    let image = Layout {
        directory: &directory,
    }
    .image_of_tar(&tar);
    let failed = crate::support::done(&node.command(["run", "--rm", &image]));
    assert_eq!(failed.code, 127, "{failed:?}");
    assert!(failed.err.contains("\"true\""), "{failed:?}");
    crate::traces::is_clean(&node);
}
