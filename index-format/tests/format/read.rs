//! What was put into a tree is what its index answers.

use crate::fixture::{STREAM_SIZE, chunks, layer_bytes, parts, sparse_extents, tree};
use crate::merge::without_impossible_links;
use crate::model;
use crate::model::{Disk, Operation};
use index_format::{
    ChunkFlags, Compression, Digest, FileKind, FormatError, Index, IndexKind, InodeNumber,
    LEAF_SIZE, SectionId, StreamOffset, Timestamp, Tree, WriteError, write,
};
use proptest::prelude::*;

fn fixture() -> Index {
    let index = Index::open(layer_bytes(&tree())).unwrap();
    index.validate().unwrap();
    index
}

fn at(index: &Index, path: &[u8]) -> InodeNumber {
    index.resolve(path).unwrap().unwrap()
}

#[test]
fn the_header_says_what_the_parts_said() {
    let index = fixture();
    assert_eq!(index.kind(), IndexKind::Layer);
    assert_eq!(index.compression(), Compression::Gzip);
    assert_eq!(index.layer_digest(), Digest::of(b"blob"));
    assert_eq!(index.diff_id(), Digest::of(b"tar"));
    assert_eq!(
        (index.compressed_size(), index.stream_size()),
        (1000, STREAM_SIZE)
    );
    assert_eq!(
        index.digest(),
        Digest::of(&index.as_bytes()[..index.header().length as usize])
    );
    assert_eq!(index.section(SectionId::Headers).unwrap(), b"the headers");
    assert!(index.layers().unwrap().is_empty());
}

#[test]
fn every_kind_is_read_back_with_its_markers() {
    let index = fixture();
    let inode = |path: &[u8]| index.inode(at(&index, path)).unwrap();
    assert_eq!(inode(b"etc/passwd").kind, FileKind::Whiteout);
    assert_eq!(inode(b"link").kind, FileKind::ForeignLink);
    assert_eq!(
        index.symlink_target(at(&index, b"link")).unwrap(),
        b"lower/file"
    );
    assert_eq!(
        index.symlink_target(at(&index, b"bin")).unwrap(),
        b"usr/bin"
    );
    assert_eq!(inode(b"bin").size, 7);
    assert!(inode(b"opt").opaque && inode(b"opt").implicit);
    assert!(inode(b"usr/bin").implicit && !inode(b"etc").implicit);
    assert_eq!(inode(b"usr").nlink, 3);
    assert_eq!(inode(b"usr/bin").parent, at(&index, b"usr"));
    assert_eq!(inode(b"etc/hosts").nlink, 2);
    assert_eq!(at(&index, b"etc/hosts"), at(&index, b"etc/hosts.old"));
    assert_eq!(
        (
            inode(b"dev/sda1").device.major,
            inode(b"dev/sda1").device.minor
        ),
        (8, 1)
    );
    assert_eq!(
        inode(b"empty").mtime,
        Timestamp {
            seconds: -1,
            nanoseconds: 999_999_999
        }
    );
    assert!(index.extents(at(&index, b"empty")).unwrap().is_empty());
    assert_eq!(
        index.extents(at(&index, b"var/sparse")).unwrap(),
        sparse_extents()
    );
    assert_eq!(
        index.content_digest(at(&index, b"etc/hosts")),
        Some(Digest::of(b"hosts"))
    );
    assert_eq!(index.content_digest(at(&index, b"empty")), None);
    assert_eq!(index.resolve(b"etc/hosts/x").unwrap(), None);
    assert_eq!(
        index.resolve(b"bin/ping").unwrap(),
        None,
        "no symlink is followed"
    );
    assert_eq!(
        index.resolve(b"//usr/bin//ping").unwrap(),
        index.resolve(b"usr/bin/ping").unwrap()
    );
}

#[test]
fn equal_xattr_sets_are_stored_once_in_any_order_given() {
    let index = fixture();
    assert!(index.has_xattrs());
    assert_eq!(index.section_length(SectionId::XattrSets), 8);
    let ping = at(&index, b"usr/bin/ping");
    let pairs: Vec<_> = index.xattrs(ping).unwrap().map(Result::unwrap).collect();
    let expected: [(&[u8], &[u8]); 2] = [
        (b"security.capability", b"\x01\0\0\x02"),
        (b"user.note", b""),
    ];
    assert_eq!(pairs, expected);
    assert_eq!(index.xattr(ping, b"user.note").unwrap(), Some(&b""[..]));
    assert_eq!(index.xattr(ping, b"user.other").unwrap(), None);
    assert_eq!(index.xattrs(at(&index, b"etc")).unwrap().count(), 0);
}

#[test]
fn questions_asked_of_the_wrong_inode_are_errors() {
    let index = fixture();
    let hosts = at(&index, b"etc/hosts");
    assert_eq!(
        index.lookup(hosts, b"x"),
        Err(FormatError::NotDirectory(hosts.0))
    );
    assert_eq!(
        index.symlink_target(hosts),
        Err(FormatError::NotLink(hosts.0))
    );
    assert_eq!(
        index.extents(InodeNumber::ROOT),
        Err(FormatError::NotRegular(1))
    );
    for number in [0, index.inode_count() + 1, u32::MAX] {
        assert_eq!(
            index.inode(InodeNumber(number)),
            Err(FormatError::NoSuchInode(number))
        );
    }
}

#[test]
fn entries_are_sorted_and_positions_are_stable() {
    let index = fixture();
    let root = index.entries(InodeNumber::ROOT).unwrap();
    let names: Vec<_> = root.clone().map(|entry| entry.unwrap().name).collect();
    assert!(names.is_sorted());
    assert_eq!(root.len() as usize, names.len());
    let rest: Vec<_> = root
        .clone()
        .starting_at(2)
        .map(|entry| entry.unwrap().name)
        .collect();
    assert_eq!(rest, names[2..]);
    assert_eq!(root.search(names[2]).unwrap(), Ok(2));
    assert_eq!(root.search(b"").unwrap(), Err(0));
    assert_eq!(root.search(b"zzz").unwrap(), Err(root.len()));
    assert_eq!(index.entry_at(InodeNumber::ROOT, root.len()).unwrap(), None);
    assert!(root.starting_at(u32::MAX).next().is_none());
}

#[test]
fn chunks_cover_the_stream_and_share_a_byte_where_bits_do() {
    let index = fixture();
    assert_eq!(index.chunk_count(), 2);
    let (first, second) = (index.chunk(0).unwrap(), index.chunk(1).unwrap());
    assert_eq!(first.stream, 0..LEAF_SIZE);
    assert_eq!(first.compressed, 10..501);
    assert!(first.flags.contains(ChunkFlags::FREE));
    assert_eq!(second.stream, LEAF_SIZE..STREAM_SIZE);
    assert_eq!(second.compressed, 500..1000);
    assert_eq!(second.bit, 3);
    assert_eq!(index.checkpoint(&second).unwrap(), b"a window");
    assert!(index.checkpoint(&first).unwrap().is_empty());
    for (offset, chunk) in [
        (0, 0),
        (LEAF_SIZE - 1, 0),
        (LEAF_SIZE, 1),
        (STREAM_SIZE - 1, 1),
    ] {
        assert_eq!(index.chunk_containing(StreamOffset(offset)).unwrap(), chunk);
    }
    assert!(index.chunk_containing(StreamOffset(STREAM_SIZE)).is_err());
    assert!(index.chunk(2).is_err() && index.chunk(u32::MAX).is_err());
    assert_eq!(index.leaf_digest(1).unwrap(), Digest::from_bytes([2; 32]));
    assert!(index.leaf_digest(2).is_err());
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let (tree, good) = (tree(), chunks());
    assert!(write(&parts(&tree, &good)).is_ok());
    let refused = |parts: &index_format::LayerParts<'_>| {
        let result = write(parts);
        assert!(
            matches!(result, Err(WriteError::Inconsistent(_))),
            "{result:?}"
        );
    };
    refused(&parts(&tree, &good[..0]));
    refused(&parts(&tree, &good[1..]));
    let mut leaves = parts(&tree, &good);
    leaves.leaves = &leaves.leaves[..1];
    refused(&leaves);
    let mut short = parts(&tree, &good);
    short.stream_size = LEAF_SIZE;
    refused(&short);
    let mut swapped = good.clone();
    swapped.swap(0, 1);
    refused(&parts(&tree, &swapped));
    let mut bits = good.clone();
    bits[1].bit = 8;
    refused(&parts(&tree, &bits));
    let mut past = Tree::new();
    past.insert(b"file", crate::fixture::file(STREAM_SIZE - 9))
        .unwrap();
    refused(&parts(&past, &good));
}

#[test]
fn an_empty_layer_has_no_chunks_and_no_leaves() {
    let tree = Tree::new();
    let mut empty = parts(&tree, &[]);
    (empty.stream_size, empty.leaves) = (0, &[]);
    let index = Index::open(write(&empty).unwrap()).unwrap();
    index.validate().unwrap();
    assert_eq!((index.chunk_count(), index.inode_count()), (0, 1));
    assert!(index.chunk_containing(StreamOffset(0)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A layer without markers is its own merge, so the plain unpack is its model too.
    #[test]
    fn random_trees_are_read_back(operations in prop::collection::vec(model::random::operation(), 0..25)) {
        let operations = operations
            .into_iter()
            .filter(|op| matches!(op, Operation::Insert(..) | Operation::Hardlink(..)))
            .collect();
        let layers = without_impossible_links(vec![operations]);
        let mut disk = Disk::new();
        disk.unpack(0, &layers[0]);
        let index = model::layer(&model::tree(&layers[0]));
        prop_assert_eq!(model::seen_in(&index), disk.seen());
        let again = layer_bytes(&model::tree(&layers[0]));
        prop_assert_eq!(index.as_bytes(), again);
    }
}
