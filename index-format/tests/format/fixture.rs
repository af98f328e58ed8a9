//! A small layer that has one of everything, and the parts to make others from.

use index_format::{
    ChunkFlags, CompressedOffset, Compression, Device, Digest, Extent, Features, FileData,
    FileOffset, LEAF_SIZE, LayerParts, NewChunk, Node, NodeContent, StreamOffset, Timestamp, Tree,
    write,
};

/// The size of every test layer's stream: two leaves, the second one short.
pub const STREAM_SIZE: u64 = LEAF_SIZE + 1000;

const LEAVES: [Digest; 2] = [Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32])];

pub fn chunks() -> Vec<NewChunk> {
    let chunk = |stream, compressed, bit, flags, checkpoint: &[u8]| NewChunk {
        stream_start: StreamOffset(stream),
        compressed_start: CompressedOffset(compressed),
        compressed_end: None,
        bit,
        flags,
        checkpoint: checkpoint.to_vec(),
    };
    let own = ChunkFlags(1 << 16);
    vec![
        chunk(0, 10, 0, ChunkFlags::FREE, b""),
        chunk(
            LEAF_SIZE,
            500,
            3,
            ChunkFlags::WINDOW_SUFFICES | own,
            b"a window",
        ),
    ]
}

pub fn parts<'a>(tree: &'a Tree, chunks: &'a [NewChunk]) -> LayerParts<'a> {
    LayerParts {
        layer_digest: Digest::of(b"blob"),
        diff_id: Digest::of(b"tar"),
        compression: Compression::Gzip,
        features: Features::default(),
        compressed_size: 1000,
        stream_size: STREAM_SIZE,
        tree,
        chunks,
        leaves: &LEAVES,
        headers: b"the headers",
    }
}

/// The index of a layer with these files.
pub fn layer_bytes(tree: &Tree) -> Vec<u8> {
    write(&parts(tree, &chunks())).unwrap()
}

/// One of everything.
pub fn tree() -> Tree {
    let mut tree = Tree::new();
    let mut root = directory();
    root.permissions = 0o1755;
    tree.insert(b"", root).unwrap();
    tree.insert(b"etc", directory()).unwrap();
    let hosts = tree.insert(b"etc/hosts", file(512)).unwrap();
    tree.set_content_digest(hosts, Digest::of(b"hosts"));
    tree.hardlink(b"etc/hosts.old", b"etc/hosts").unwrap();
    let mut ping = file(1536);
    ping.permissions = 0o4755;
    ping.xattrs = vec![
        (b"user.note".to_vec(), b"".to_vec()),
        (b"security.capability".to_vec(), b"\x01\0\0\x02".to_vec()),
    ];
    tree.insert(b"usr/bin/ping", ping.clone()).unwrap();
    ping.xattrs.reverse();
    tree.insert(b"usr/bin/ping6", ping).unwrap();
    tree.insert(b"bin", symlink(b"usr/bin")).unwrap();
    let sparse = tree.insert(b"var/sparse", sparse()).unwrap();
    tree.set_content_digest(sparse, Digest::of(b"sparse"));
    tree.insert(b"var/\xff\xfe", node(NodeContent::Fifo))
        .unwrap();
    tree.insert(b"var/socket", node(NodeContent::Socket))
        .unwrap();
    tree.insert(b"dev/sda1", node(NodeContent::BlockDevice(device())))
        .unwrap();
    tree.insert(b"dev/tty", node(NodeContent::CharDevice(device())))
        .unwrap();
    tree.hardlink(b"link", b"lower/file").unwrap();
    tree.whiteout(b"etc", b"passwd").unwrap();
    tree.opaque(b"opt").unwrap();
    let mut empty = file(0);
    empty.content = NodeContent::Regular {
        size: 0,
        data: FileData::Whole(StreamOffset(9)),
    };
    empty.mtime = Timestamp {
        seconds: -1,
        nanoseconds: 999_999_999,
    };
    tree.insert(b"empty", empty).unwrap();
    tree
}

pub fn node(content: NodeContent) -> Node {
    Node {
        permissions: 0o644,
        uid: 1000,
        gid: u32::MAX,
        mtime: Timestamp {
            seconds: 1_700_000_000,
            nanoseconds: 123_456_789,
        },
        xattrs: Vec::new(),
        content,
    }
}

pub fn directory() -> Node {
    node(NodeContent::Directory)
}

/// A file whose place in the stream tells it from others.
pub fn file(place: u64) -> Node {
    node(NodeContent::Regular {
        size: 10,
        data: FileData::Whole(StreamOffset(place)),
    })
}

pub fn symlink(target: &[u8]) -> Node {
    node(NodeContent::Symlink {
        target: target.to_vec(),
    })
}

/// A terabyte, of which two runs are not zeros.
pub fn sparse() -> Node {
    let extents = sparse_extents();
    node(NodeContent::Regular {
        size: 1 << 40,
        data: FileData::Sparse(extents),
    })
}

pub fn sparse_extents() -> Vec<Extent> {
    let extent = |file, stream, length| Extent {
        file_offset: FileOffset(file),
        stream_offset: StreamOffset(stream),
        length,
    };
    vec![extent(100, 0, 50), extent(4096, 512, 1)]
}

fn device() -> Device {
    Device { major: 8, minor: 1 }
}
