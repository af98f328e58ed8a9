//! Indexes that lie about their layer are found out.

use index_format::tree::FileData;
use index_format::{
    ChunkFlags, CompressedOffset, Compression, Digest, Features, Index, LayerParts, NewChunk, Node,
    NodeContent, StreamOffset, Timestamp, Tree, write,
};

use crate::IndexerError;
use crate::closing::{Difference, check_chunks, verify_tree};
use crate::tar::fixture::{end, ustar};
use crate::tests::{compress, index_pieces, options};

fn stream() -> Vec<u8> {
    let first = ustar(b"dir/a", b'0').with(b"first");
    let second = ustar(b"dir/b", b'0').with(b"second");
    [
        first,
        second,
        ustar(b"dir/c", b'1').link(b"dir/a").done(),
        end(),
    ]
    .concat()
}

fn file(size: u64, offset: u64) -> Node {
    let data = FileData::Whole(StreamOffset(offset));
    Node {
        permissions: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        xattrs: vec![],
        content: NodeContent::Regular { size, data },
    }
}

/// The true tree, which tests then falsify.
fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.insert(b"dir/a", file(5, 512)).unwrap();
    tree.insert(b"dir/b", file(6, 1536)).unwrap();
    tree.hardlink(b"dir/c", b"dir/a").unwrap();
    tree
}

fn claim(tree: &Tree, diff_id: Digest, leaf: Digest, features: Features) -> Index {
    let chunk = NewChunk {
        stream_start: StreamOffset(0),
        compressed_start: CompressedOffset(0),
        compressed_end: None,
        bit: 0,
        flags: ChunkFlags::FREE,
        checkpoint: vec![],
    };
    let size = stream().len() as u64;
    let bytes = write(&LayerParts {
        layer_digest: Digest::of(&stream()),
        diff_id,
        compression: Compression::None,
        features,
        compressed_size: size,
        stream_size: size,
        tree,
        chunks: &[chunk],
        leaves: &[leaf],
        headers: &[],
    });
    Index::open(bytes.unwrap()).unwrap()
}

fn differences(tree: &Tree) -> Vec<Difference> {
    let digest = Digest::of(&stream());
    let index = claim(tree, digest, digest, Features::default());
    verify_tree(&index, &stream()[..]).unwrap().differences
}

fn changed(path: &str, what: &'static str) -> Difference {
    Difference::Changed {
        path: path.as_bytes().to_vec(),
        what,
    }
}

#[test]
fn the_truth_in_another_form_is_closed() {
    // Without digests of contents the sections differ, the tree does not.
    assert_eq!(differences(&tree()), []);
}

#[test]
fn invented_and_missing_paths() {
    let mut lie = tree();
    lie.insert(b"dir/bb", file(5, 512)).unwrap();
    lie.insert(b"zz", file(5, 512)).unwrap();
    let invented = |path: &[u8]| Difference::Invented(path.to_vec());
    assert_eq!(differences(&lie), [invented(b"zz"), invented(b"dir/bb")]);
    assert_eq!(
        differences(&Tree::new()),
        [
            Difference::Changed {
                path: vec![],
                what: "its number of links"
            },
            Difference::Missing(b"dir".to_vec()),
        ]
    );
}

#[test]
fn changed_attributes() {
    let check = |node: Node, what| {
        let mut lie = tree();
        lie.insert(b"dir/b", node).unwrap();
        assert_eq!(differences(&lie), [changed("dir/b", what)]);
    };
    let truth = || file(6, 1536);
    check(
        Node {
            permissions: 0o4755,
            ..truth()
        },
        "its mode",
    );
    check(Node { uid: 5, ..truth() }, "its owner");
    check(Node { gid: 5, ..truth() }, "its owner");
    check(
        Node {
            mtime: Timestamp {
                seconds: 0,
                nanoseconds: 1,
            },
            ..truth()
        },
        "its modification time",
    );
    check(file(6, 1537), "the place of its content");
    check(
        Node {
            content: NodeContent::Fifo,
            ..truth()
        },
        "its kind",
    );
    let xattrs = vec![(b"user.a".to_vec(), b"b".to_vec())];
    check(Node { xattrs, ..truth() }, "its extended attributes");
}

#[test]
fn changed_links() {
    let mut lie = tree();
    lie.hardlink(b"dir/c", b"dir/b").unwrap();
    assert!(differences(&lie).contains(&changed("dir/c", "its hard links")));
    let mut lie = tree();
    lie.opaque(b"dir").unwrap();
    assert_eq!(differences(&lie), [changed("dir", "its opaqueness")]);
}

#[test]
fn wrong_digests_of_contents() {
    let mut lie = tree();
    let node = lie.insert(b"dir/b", file(6, 1536)).unwrap();
    lie.set_content_digest(node, Digest::of(b"second"));
    assert_eq!(differences(&lie), []);
    lie.set_content_digest(node, Digest::of(b"other"));
    assert_eq!(
        differences(&lie),
        [changed("dir/b", "the digest of its content")]
    );
}

#[test]
fn absent_digests_of_contents_do_not_pass_for_compared() {
    let mut lie = tree();
    let node = lie.insert(b"dir/b", file(6, 1536)).unwrap();
    lie.set_content_digest(node, Digest::of(b"other"));
    let digest = Digest::of(&stream());
    let index = claim(&lie, digest, digest, Features::default());
    let hot = usize::try_from(index.header().hot_size).unwrap();
    let hot = Index::open(index.as_bytes()[..hot].to_vec()).unwrap();
    match verify_tree(&hot, &stream()[..]) {
        Err(IndexerError::Format(error)) => assert!(error.is_section_absent()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_stream_digests() {
    let (truth, other) = (Digest::of(&stream()), Digest::of(b"other"));
    let index = claim(&tree(), other, truth, Features::default());
    let closed = verify_tree(&index, &stream()[..]).unwrap();
    assert_eq!(
        closed.differences,
        [Difference::DiffId {
            expected: other,
            found: truth
        }]
    );
    let index = claim(&tree(), truth, other, Features::default());
    let closed = verify_tree(&index, &stream()[..]).unwrap();
    assert_eq!(closed.differences, [Difference::Leaf(0)]);
    let index = claim(&tree(), truth, truth, Features::default());
    let longer = [&stream()[..], &[0]].concat();
    let closed = verify_tree(&index, &longer[..]).unwrap();
    assert!(matches!(
        closed.differences[0],
        Difference::StreamSize { .. }
    ));
    assert!(!closed.is_closed());
}

#[test]
fn many_differences_are_counted() {
    let mut lie = tree();
    for number in 0..80 {
        lie.insert(format!("x{number}").as_bytes(), file(5, 512))
            .unwrap();
    }
    let digest = Digest::of(&stream());
    let index = claim(&lie, digest, digest, Features::default());
    let closed = verify_tree(&index, &stream()[..]).unwrap();
    assert_eq!((closed.differences.len(), closed.more), (50, 30));
}

#[test]
fn a_content_stream_cannot_be_compared() {
    let digest = Digest::of(&stream());
    let features = Features {
        required: Features::LAYOUT_TOC,
        optional: 0,
    };
    let index = claim(&tree(), digest, digest, features);
    assert!(matches!(
        verify_tree(&index, &stream()[..]),
        Err(IndexerError::TocLayout)
    ));
}

#[test]
fn chunks_that_cannot_be_decoded_alone() {
    let content: Vec<u8> = (0..200_000_u32)
        .flat_map(|i| (i % 9973).to_le_bytes())
        .collect();
    let stream = [ustar(b"a", b'0').with(&content), end()].concat();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut compressed = compress(&stream, compression);
        let (built, _) = index_pieces(&compressed, compression, 4096, options()).unwrap();
        let index = Index::open(built.bytes).unwrap();
        assert!(index.chunk_count() > 1);
        let middle = compressed.len() / 2;
        compressed[middle] ^= 0x55;
        let read = |range: std::ops::Range<u64>| {
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            Ok(compressed[range].to_vec())
        };
        match check_chunks(&index, read) {
            Ok(closed) => assert!(!closed.is_closed(), "{compression}"),
            Err(error) => assert!(error.is_bad_layer(), "{error}"),
        }
    }
}
