//! Files of released versions: read forever, and written as they were by the same version.

use crate::fixture::{layer_bytes, tree};
use crate::model::seen_in;
use index_format::{Index, Limits, Tree, merge, wire};

const LAYER: &[u8] = include_bytes!("../../testdata/version-1-layer.index");
const MERGED: &[u8] = include_bytes!("../../testdata/version-1-merged.index");
const HOT: &[u8] = include_bytes!("../../testdata/version-1-layer.hot");

/// A layer below the fixture, so that the merge has something to hide and to link to.
fn lower() -> Tree {
    let mut lower = Tree::new();
    for (path, place) in [
        (&b"etc/passwd"[..], 1),
        (b"lower/file", 2),
        (b"opt/gone", 3),
    ] {
        lower.insert(path, crate::fixture::file(place)).unwrap();
    }
    lower
}

fn merged() -> Vec<u8> {
    let layers = [lower(), tree()].map(|tree| Index::open(layer_bytes(&tree)).unwrap());
    let merged = merge(&layers, &Limits::default()).unwrap();
    assert_eq!(merged.warnings, []);
    merged.bytes
}

#[test]
fn version_1_is_read() {
    let layer = Index::open(LAYER).unwrap();
    layer.validate().unwrap();
    let hosts = layer.resolve(b"etc/hosts").unwrap().unwrap();
    assert_eq!(layer.extents(hosts).unwrap()[0].stream_offset.0, 512);
    let merged = Index::open(MERGED).unwrap();
    merged.validate().unwrap();
    let seen = seen_in(&merged);
    assert_eq!(seen[&b"link"[..]].names.len(), 2);
    assert!(!seen.contains_key(&b"etc/passwd"[..]) && !seen.contains_key(&b"opt/gone"[..]));
    let hot = wire::decode_hot(HOT, &Limits::default()).unwrap();
    assert_eq!(hot, LAYER[..layer.header().hot_size as usize]);
}

#[test]
fn version_1_is_written_as_it_was() {
    assert!(
        layer_bytes(&tree()) == LAYER,
        "the layer index differs from version 1"
    );
    assert!(
        merged() == MERGED,
        "the merged index differs from version 1"
    );
}

#[test]
#[ignore = "writes the golden files; for a new version only, never over those of a released one"]
fn write_golden_files() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/version-1-");
    let layer = layer_bytes(&tree());
    std::fs::write(format!("{directory}layer.index"), &layer).unwrap();
    std::fs::write(
        format!("{directory}layer.hot"),
        wire::encode(&layer).unwrap().hot,
    )
    .unwrap();
    std::fs::write(format!("{directory}merged.index"), merged()).unwrap();
}
