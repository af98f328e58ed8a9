//! Links of a tar that lead nowhere, or in circles.

use std::io::Read;

use tar::EntryType::{Directory, Link, Regular, Symlink};

use crate::support::crafted::{GZIP, Layout, digest, gzip, tar_of};
use crate::support::node::Node;
use crate::support::{done, images};
use crate::traces::{fails, fails_everywhere, has_trusted_index, is_clean};

type Entry<'a> = (&'a str, tar::EntryType, &'a str);

/// A tar of a directory `links` with a file `links/ok` in it, and of these entries.
fn tar_with(entries: &[Entry<'_>]) -> Vec<u8> {
    let usual = [("links", Directory, ""), ("links/ok", Regular, "")];
    let mut tar = Vec::new();
    for (name, kind, link) in usual.iter().chain(entries) {
        let one = tar_of(name.as_bytes(), *kind, link.as_bytes(), b"");
        tar.extend_from_slice(&one[..512]);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// An image of busybox and a layer of this tar.
fn image_of(node: &Node, name: &str, tar: &[u8]) -> String {
    let (_, base) = images::layer_blobs("zoo").swap_remove(0);
    let base = std::fs::read(base).unwrap();
    let mut base_tar = Vec::new();
    flate2::read::MultiGzDecoder::new(&base[..])
        .read_to_end(&mut base_tar)
        .unwrap();
    let (layer, directory) = (gzip(tar), node.directory(name));
    let layers = [
        (&base[..], GZIP, &*digest(&base_tar)),
        (&layer[..], GZIP, &*digest(tar)),
    ];
    Layout {
        directory: &directory,
    }
    .image_of(&layers)
}

/// Writes the layer to a file; gives its path.
fn layer_file(node: &Node, tar: &[u8]) -> String {
    let file = node.path("layer");
    std::fs::write(&file, gzip(tar)).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn hardlinks_that_lead_nowhere_are_left_out_and_named() {
    let cases: [(&str, &[Entry<'_>], &str); 4] = [
        (
            "circle",
            &[("links/a", Link, "links/b"), ("links/b", Link, "links/a")],
            "\"links/a\" links to \"links/b\"",
        ),
        (
            "missing",
            &[("links/a", Link, "links/nothing")],
            "\"links/a\" links to \"links/nothing\"",
        ),
        (
            "long-circle",
            &[
                ("links/a", Link, "links/b"),
                ("links/b", Link, "links/c"),
                ("links/c", Link, "links/a"),
            ],
            "\"links/a\" links to \"links/b\"",
        ),
        ("itself", &[("links/a", Link, "links/a")], ""),
    ];
    let node = Node::new();
    for (name, entries, said) in cases {
        let tar = tar_with(entries);
        let image = image_of(&node, name, &tar);
        let listed = done(&node.command(["run", "--rm", &image, "ls", "/links"]));
        assert_eq!(
            (listed.code, &*listed.out),
            (0, "ok\n"),
            "{name}: {listed:?}"
        );
        assert!(listed.err.contains(said), "{name}: {listed:?}");
        let built = done(&node.command(["index", "build", &image]));
        assert_eq!(built.code, 0, "{name}: {built:?}");
        let file = layer_file(&node, &tar);
        let built = done(&node.command(["index", "build", &file]));
        assert_eq!(built.code, 0, "{name}: {built:?}");
        if name == "itself" {
            assert!(built.err.contains("links/a"), "{built:?}");
        }
    }
    is_clean(&node);
}

#[test]
fn directories_that_lead_in_circles_are_refused() {
    let circle = [("links/a", Symlink, "b"), ("links/b", Symlink, "a")];
    let itself = [("links/a", Symlink, "a")];
    let deep = [("links/a", Symlink, "a/a")];
    let below: [Entry<'_>; 2] = [
        ("links/a/file", Regular, ""),
        ("links/a/b/c/directory", Directory, ""),
    ];
    for (number, links) in [&circle[..], &itself, &deep].into_iter().enumerate() {
        for last in below {
            let node = Node::new();
            let tar = tar_with(&[links, &[last]].concat());
            let image = image_of(&node, &format!("circle{number}"), &tar);
            let layer = digest(&gzip(&tar));
            fails_everywhere(&node, &image, &[&layer, last.0, "symlinks"]);
            assert!(!has_trusted_index(&node, &layer));
            let built = fails(&node, &["index", "build", &image], 1);
            assert!(built.err.contains(last.0), "{built:?}");
            let file = layer_file(&node, &tar);
            let built = fails(&node, &["index", "build", &file], 1);
            assert!(built.err.contains(last.0), "{built:?}");
            assert!(!node.path("layer.index").exists());
        }
    }
}
