//! Random layers for property tests.

use crate::fixture::STREAM_SIZE;
use crate::model::{Operation, Path};
use index_format::{
    Device, Extent, FileData, FileOffset, Node, NodeContent, StreamOffset, Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Few names, so that entries collide; one is not UTF-8.
pub fn name() -> impl Strategy<Value = Path> {
    prop_oneof![
        Just(b"a".to_vec()),
        Just(b"b".to_vec()),
        Just(b"\xff\x01".to_vec())
    ]
}

pub fn path() -> impl Strategy<Value = Path> {
    vec(name(), 1..4).prop_map(|names| names.join(&b'/'))
}

pub fn directory_path() -> impl Strategy<Value = Path> {
    vec(name(), 0..3).prop_map(|names| names.join(&b'/'))
}

fn extents() -> impl Strategy<Value = FileData> {
    vec((1..50u64, 1..50u64, 0..STREAM_SIZE - 100), 0..4).prop_map(|runs| {
        let mut end = 0;
        let extents = runs.into_iter().map(|(gap, length, stream)| {
            let start = end + gap;
            end = start + length;
            Extent {
                file_offset: FileOffset(start),
                stream_offset: StreamOffset(stream),
                length,
            }
        });
        FileData::Sparse(extents.collect())
    })
}

fn content(with_symlinks: bool) -> impl Strategy<Value = NodeContent> {
    let whole = (1..1000u64, 0..STREAM_SIZE - 1000)
        .prop_map(|(size, offset)| (size, FileData::Whole(StreamOffset(offset))));
    let empty = Just((0, FileData::Whole(StreamOffset(0))));
    let sparse = extents().prop_map(|data| (1000, data));
    let regular = prop_oneof![4 => whole, 1 => empty, 2 => sparse]
        .prop_map(|(size, data)| NodeContent::Regular { size, data });
    let device = (1..300u32, 0..70_000u32).prop_map(|(major, minor)| Device { major, minor });
    let symlink = prop_oneof![Just(b"a".to_vec()), Just(b"/b/../x".to_vec())];
    let symlinks = u32::from(with_symlinks);
    prop_oneof![
        5 => Just(NodeContent::Directory),
        5 => regular,
        1 => device.clone().prop_map(NodeContent::CharDevice),
        1 => device.prop_map(NodeContent::BlockDevice),
        1 => Just(NodeContent::Fifo),
        1 => Just(NodeContent::Socket),
        symlinks => symlink.prop_map(|target| NodeContent::Symlink { target }),
    ]
}

pub fn node(with_symlinks: bool) -> impl Strategy<Value = Node> {
    let xattr = (
        prop_oneof![
            Just(b"user.one".to_vec()),
            Just(b"security.capability".to_vec())
        ],
        vec(any::<u8>(), 0..3),
    );
    let mtime = (any::<i64>(), 0..1_000_000_000u32);
    (
        0..=0o7777u16,
        0..3u32,
        any::<u32>(),
        mtime,
        vec(xattr, 0..3),
        content(with_symlinks),
    )
        .prop_map(
            |(permissions, uid, gid, (seconds, nanoseconds), xattrs, content)| Node {
                permissions,
                uid,
                gid,
                mtime: Timestamp {
                    seconds,
                    nanoseconds,
                },
                xattrs,
                content,
            },
        )
}

/// A symlink only ever at a name that no path leads through.
fn leaf_symlink() -> impl Strategy<Value = Operation> {
    (directory_path(), node(true)).prop_map(|(directory, mut node)| {
        node.content = NodeContent::Symlink {
            target: b"../anywhere".to_vec(),
        };
        let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        Operation::Insert([&directory, separator, b"leaf"].concat(), node)
    })
}

/// Entries in any order, replacing each other in any way, without symlinks on the way.
pub fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        10 => (path(), node(false)).prop_map(|(path, node)| Operation::Insert(path, node)),
        1 => leaf_symlink(),
        3 => (path(), path()).prop_map(|(path, target)| Operation::Hardlink(path, target)),
        3 => (directory_path(), name()).prop_map(|(path, name)| Operation::Whiteout(path, name)),
        2 => directory_path().prop_map(Operation::Opaque),
    ]
}

pub fn layers() -> impl Strategy<Value = Vec<Vec<Operation>>> {
    vec(vec(operation(), 0..15), 1..5)
}
