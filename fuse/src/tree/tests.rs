use std::collections::BTreeMap;

use nix::errno::Errno;
use proptest::prelude::*;

use super::*;
use crate::content::{Done, Piece};
use crate::image::{Layer, Meta, merged, pattern};

/// Content that is never asked: these tests look at what would be.
struct Nothing;

impl Content for Nothing {
    fn read(&self, _pieces: Vec<Piece>, done: Done) {
        done(Err(Errno::EIO));
    }
}

fn mounted(layers: &[Layer]) -> MountedTree<Nothing> {
    let index = Index::open(merged(layers)).unwrap();
    MountedTree::new(index, Arc::new(Nothing)).unwrap()
}

const ROOT: InodeNumber = InodeNumber::ROOT;

fn look(tree: &MountedTree<Nothing>, path: &str) -> Option<Attributes> {
    let mut at = tree.attributes(ROOT).unwrap();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        at = tree.lookup(at.number, name.as_bytes()).unwrap()?;
    }
    Some(at)
}

fn errno<T>(result: Result<T, TreeError>) -> Errno {
    result.err().unwrap().errno()
}

#[test]
fn only_merged_indexes_are_mounted() {
    let layer = Layer::default().index();
    assert!(matches!(
        MountedTree::new(layer, Arc::new(Nothing)),
        Err(TreeError::NotMerged)
    ));
}

#[test]
fn questions_to_the_wrong_inode_have_their_errno() {
    let mut layer = Layer::default();
    layer
        .file("file", Meta::mode(0o644), b"bytes")
        .symlink("link", "file");
    layer.directory("dir", Meta::mode(0o755));
    let tree = mounted(&[layer]);
    let number = |path| look(&tree, path).unwrap().number;
    let (file, link, dir) = (number("file"), number("link"), number("dir"));
    assert_eq!(errno(tree.lookup(file, b"x")), Errno::ENOTDIR);
    assert_eq!(errno(tree.directory(link, 0)), Errno::ENOTDIR);
    assert_eq!(errno(tree.readlink(file)), Errno::EINVAL);
    assert_eq!(errno(tree.read(dir, 0, 1)), Errno::EISDIR);
    assert_eq!(errno(tree.read(link, 0, 1)), Errno::EINVAL);
    assert_eq!(errno(tree.attributes(InodeNumber(0))), Errno::ESTALE);
    assert_eq!(errno(tree.attributes(InodeNumber(99))), Errno::ESTALE);
    assert_eq!(errno(tree.lookup(ROOT, &[b'x'; 256])), Errno::ENAMETOOLONG);
    assert_eq!(tree.lookup(ROOT, &[b'x'; 255]).unwrap(), None);
    assert_eq!(tree.lookup(ROOT, b"").unwrap(), None);
    assert_eq!(tree.readlink(link).unwrap(), b"file");
}

#[test]
fn reads_name_the_layer_of_the_file() {
    let mut bottom = Layer::default();
    bottom
        .file("below", Meta::mode(0o644), b"below")
        .file("both", Meta::mode(0o644), b"low");
    let mut top = Layer::default();
    top.file("both", Meta::mode(0o644), b"high");
    let tree = mounted(&[bottom, top]);
    let layer = |path| {
        let number = look(&tree, path).unwrap().number;
        match tree.read(number, 0, 100).unwrap().pieces[..] {
            [Piece::Stream { layer, length, .. }] => (layer, length),
            ref pieces => panic!("{pieces:?}"),
        }
    };
    assert_eq!([layer("below"), layer("both")], [(0, 5), (1, 4)]);
}

#[test]
fn xattr_answers_fit_the_callers_buffer() {
    let mut layer = Layer::default();
    let meta = Meta::mode(0o644)
        .xattr("user.one", b"1234")
        .xattr("security.capability", b"");
    layer
        .file("with", meta, b"")
        .file("without", Meta::mode(0o644), b"");
    let tree = mounted(&[layer]);
    let with = look(&tree, "with").unwrap().number;
    let without = look(&tree, "without").unwrap().number;
    let get = |name: &str, size| tree.xattr(with, name.as_bytes(), size);
    assert_eq!(get("user.one", 0).unwrap(), XattrAnswer::Size(4));
    assert_eq!(
        get("user.one", 4).unwrap(),
        XattrAnswer::Bytes(b"1234".to_vec())
    );
    assert_eq!(errno(get("user.one", 3)), Errno::ERANGE);
    assert_eq!(get("security.capability", 0).unwrap(), XattrAnswer::Size(0));
    assert_eq!(
        get("security.capability", 1).unwrap(),
        XattrAnswer::Bytes(Vec::new())
    );
    assert_eq!(errno(get("user.two", 0)), Errno::ENODATA);
    assert_eq!(errno(tree.xattr(without, b"user.one", 0)), Errno::ENODATA);
    assert_eq!(errno(get("trusted.overlay.opaque", 0)), Errno::ENODATA);
    assert_eq!(errno(get("user.overlay.opaque", 0)), Errno::ENODATA);

    let names = b"security.capability\0user.one\0".to_vec();
    let size = names.len() as u32;
    assert_eq!(tree.xattr_names(with, 0).unwrap(), XattrAnswer::Size(size));
    assert_eq!(errno(tree.xattr_names(with, size - 1)), Errno::ERANGE);
    assert_eq!(
        tree.xattr_names(with, size).unwrap(),
        XattrAnswer::Bytes(names)
    );
    assert_eq!(tree.xattr_names(without, 0).unwrap(), XattrAnswer::Size(0));
    assert_eq!(
        tree.xattr_names(without, 10).unwrap(),
        XattrAnswer::Bytes(Vec::new())
    );
}

#[test]
fn questions_that_need_not_be_asked_are_refused_for_good() {
    let mut layer = Layer::default();
    layer.file("file", Meta::mode(0o644), b"bytes");
    let tree = mounted(&[layer]);
    let file = look(&tree, "file").unwrap().number;
    assert_eq!(errno(tree.xattr(file, b"user.one", 0)), Errno::ENOSYS);
    assert_eq!(errno(tree.xattr_names(file, 0)), Errno::ENOSYS);
    assert_eq!(errno(tree.seek(file, 0, SEEK_HOLE)), Errno::ENOSYS);
}

#[test]
fn seeking_finds_data_and_holes() {
    let mut layer = Layer::default();
    layer
        .sparse("sparse", Meta::mode(0o644), 100, &[(10, b"0123456789")])
        .file("dense", Meta::mode(0o644), b"0123456789");
    let tree = mounted(&[layer]);
    let sparse = look(&tree, "sparse").unwrap();
    assert_eq!((sparse.size, sparse.blocks), (100, 8));
    let seek = |offset, whence| tree.seek(sparse.number, offset, whence);
    assert_eq!(seek(0, SEEK_DATA).unwrap(), 10);
    assert_eq!(seek(0, SEEK_HOLE).unwrap(), 0);
    assert_eq!(seek(15, SEEK_HOLE).unwrap(), 20);
    for (offset, whence, expected) in [
        (20, SEEK_DATA, Errno::ENXIO),
        (100, SEEK_HOLE, Errno::ENXIO),
        (-1, SEEK_DATA, Errno::ENXIO),
        (0, 2, Errno::EINVAL),
    ] {
        assert_eq!(errno(seek(offset, whence)), expected, "{offset} {whence}");
    }
    let dense = look(&tree, "dense").unwrap().number;
    assert_eq!(tree.seek(dense, 3, SEEK_HOLE).unwrap(), 10);
}

#[test]
fn the_size_is_that_of_all_layers() {
    let mut bottom = Layer::default();
    bottom.file("a", Meta::mode(0o644), &pattern(1, 10_000));
    let mut top = Layer::default();
    top.file("b", Meta::mode(0o644), &pattern(2, 5000));
    let tree = mounted(&[bottom, top]);
    // Each file has a gap of 512 bytes before it.
    let space = Space {
        blocks: (10_512u64 + 5512).div_ceil(4096),
        files: 3,
        name_length: 255,
    };
    assert_eq!(tree.space(), space);
}

/// A directory tree as nested maps, to compare with.
#[derive(Clone, Debug, PartialEq)]
enum Model {
    Directory(u16, BTreeMap<String, Model>),
    File(u16, i64, Vec<u8>),
    Link(String),
}

fn model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        (
            0u16..0o10000,
            -5i64..5,
            prop::collection::vec(any::<u8>(), 0..40)
        )
            .prop_map(|(mode, mtime, bytes)| Model::File(mode, mtime, bytes)),
        "[a-z/.]{1,20}".prop_map(Model::Link),
    ];
    let directory = |inner: BoxedStrategy<Model>| {
        (
            0u16..0o10000,
            prop::collection::btree_map("[a-c.]{0,2}[a-d]", inner, 0..8),
        )
            .prop_map(|(mode, entries)| Model::Directory(mode, entries))
    };
    let tree = leaf.prop_recursive(4, 60, 8, directory);
    (
        0u16..0o10000,
        prop::collection::btree_map("[a-z]{1,3}", tree, 0..8),
    )
        .prop_map(|(mode, entries)| Model::Directory(mode, entries))
}

fn add(layer: &mut Layer, path: &str, model: &Model) {
    match model {
        Model::Directory(mode, entries) => {
            layer.directory(path, Meta::mode(*mode));
            for (name, entry) in entries {
                let separator = if path.is_empty() { "" } else { "/" };
                add(layer, &format!("{path}{separator}{name}"), entry);
            }
        }
        Model::File(mode, mtime, bytes) => {
            layer.file(path, Meta::mode(*mode).mtime(*mtime, 1), bytes);
        }
        Model::Link(target) => {
            layer.symlink(path, target);
        }
    }
}

/// The tree under `number`, read only through the questions that the kernel asks.
fn observe(tree: &MountedTree<Nothing>, stream: &[u8], number: InodeNumber) -> Model {
    let attributes = tree.attributes(number).unwrap();
    match attributes.kind {
        FileKind::Directory => {
            let entries = observe_directory(tree, number)
                .into_iter()
                .map(|(name, inode)| (name, observe(tree, stream, inode)))
                .collect();
            Model::Directory(attributes.permissions, entries)
        }
        FileKind::Regular => {
            let plan = tree.read(number, 0, u32::MAX).unwrap();
            assert_eq!(plan.length as u64, attributes.size);
            let bytes = plan.pieces.iter().flat_map(|piece| match *piece {
                Piece::Stream {
                    layer: 0,
                    offset,
                    length,
                } => &stream[offset.0 as usize..(offset.0 + length) as usize],
                ref piece => panic!("{piece:?}"),
            });
            let bytes = bytes.copied().collect();
            Model::File(attributes.permissions, attributes.mtime.seconds, bytes)
        }
        FileKind::Symlink => {
            let target = tree.readlink(number).unwrap().to_vec();
            assert_eq!(target.len() as u64, attributes.size);
            Model::Link(String::from_utf8(target).unwrap())
        }
        kind => panic!("{kind:?}"),
    }
}

/// Entries of a directory by name; read from every position at least once.
fn observe_directory(
    tree: &MountedTree<Nothing>,
    number: InodeNumber,
) -> Vec<(String, InodeNumber)> {
    let listed: Vec<_> = tree
        .directory(number, 0)
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    let mut at = 0;
    for expected in &listed {
        let entry = tree.directory(number, at).unwrap().next().unwrap().unwrap();
        assert_eq!((entry.name, entry.inode), (expected.name, expected.inode));
        at = entry.next;
    }
    assert!(tree.directory(number, at).unwrap().next().is_none());
    assert!(tree.directory(number, u64::MAX).unwrap().next().is_none());
    assert_eq!(
        (listed[0].name, listed[0].inode.number),
        (&b"."[..], number)
    );
    assert_eq!(listed[1].name, b"..");
    for entry in &listed[2..] {
        let found = tree.lookup(number, entry.name).unwrap().unwrap();
        assert_eq!(found, tree.attributes_of(&entry.inode).unwrap());
        assert_eq!(found, tree.attributes(entry.inode.number).unwrap());
        let inside = entry.inode.kind == FileKind::Directory;
        if inside {
            let mut stream = tree.directory(entry.inode.number, 1).unwrap();
            assert_eq!(stream.next().unwrap().unwrap().inode.number, number, "..");
        }
    }
    let name = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    listed[2..]
        .iter()
        .map(|entry| (name(entry.name), entry.inode.number))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_tree_is_the_model(model in model(), missing in "[a-z]{4}") {
        let mut layer = Layer::default();
        add(&mut layer, "", &model);
        let stream = layer.stream.clone();
        let tree = mounted(&[layer]);
        prop_assert_eq!(observe(&tree, &stream, ROOT), model);
        prop_assert_eq!(tree.lookup(ROOT, missing.as_bytes()).unwrap(), None);
    }
}
