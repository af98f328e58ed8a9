//! Small images made in memory, for tests of the tree and of real mounts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "every test binary uses another part")]

use index_format::{
    Compression, Device, Digest, Extent, Features, FileData, FileOffset, Index, LEAF_SIZE,
    LayerParts, Limits, NewChunk, Node, NodeContent, StreamOffset, Timestamp, Tree, merge, write,
};

/// Attributes of an entry.
#[derive(Clone, Debug)]
pub struct Meta {
    pub permissions: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Meta {
    pub fn mode(permissions: u16) -> Self {
        let mtime = Timestamp {
            seconds: 1_600_000_000,
            nanoseconds: 123_456_789,
        };
        Self {
            permissions,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: Vec::new(),
        }
    }

    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }

    pub fn mtime(self, seconds: i64, nanoseconds: u32) -> Self {
        Self {
            mtime: Timestamp {
                seconds,
                nanoseconds,
            },
            ..self
        }
    }

    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.xattrs.push((name.as_bytes().to_vec(), value.to_vec()));
        self
    }

    fn node(self, content: NodeContent) -> Node {
        let Self {
            permissions,
            uid,
            gid,
            mtime,
            xattrs,
        } = self;
        Node {
            permissions,
            uid,
            gid,
            mtime,
            xattrs,
            content,
        }
    }
}

/// One layer: its files, and the stream that holds their bytes.
#[derive(Default)]
pub struct Layer {
    pub tree: Tree,
    pub stream: Vec<u8>,
}

impl Layer {
    /// Appends bytes to the stream, behind a gap as a tar's headers leave.
    fn append(&mut self, bytes: &[u8]) -> u64 {
        self.stream.resize(self.stream.len() + 512, 0xdd);
        let offset = self.stream.len() as u64;
        self.stream.extend_from_slice(bytes);
        offset
    }

    pub fn insert(&mut self, path: &str, meta: Meta, content: NodeContent) -> &mut Self {
        self.tree
            .insert(path.as_bytes(), meta.node(content))
            .unwrap();
        self
    }

    pub fn directory(&mut self, path: &str, meta: Meta) -> &mut Self {
        self.insert(path, meta, NodeContent::Directory)
    }

    pub fn file(&mut self, path: &str, meta: Meta, bytes: &[u8]) -> &mut Self {
        let data = FileData::Whole(StreamOffset(self.append(bytes)));
        self.insert(
            path,
            meta,
            NodeContent::Regular {
                size: bytes.len() as u64,
                data,
            },
        )
    }

    /// A file of `size` bytes with nothing but `runs` in it, given as (offset, bytes).
    pub fn sparse(
        &mut self,
        path: &str,
        meta: Meta,
        size: u64,
        runs: &[(u64, &[u8])],
    ) -> &mut Self {
        let extents = runs
            .iter()
            .map(|&(offset, bytes)| Extent {
                file_offset: FileOffset(offset),
                stream_offset: StreamOffset(self.append(bytes)),
                length: bytes.len() as u64,
            })
            .collect();
        self.insert(
            path,
            meta,
            NodeContent::Regular {
                size,
                data: FileData::Sparse(extents),
            },
        )
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        let target = target.as_bytes().to_vec();
        self.insert(path, Meta::mode(0o777), NodeContent::Symlink { target })
    }

    pub fn char_device(&mut self, path: &str, meta: Meta, major: u32, minor: u32) -> &mut Self {
        self.insert(path, meta, NodeContent::CharDevice(Device { major, minor }))
    }

    pub fn hardlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.tree
            .hardlink(path.as_bytes(), target.as_bytes())
            .unwrap();
        self
    }

    /// The index of the layer, as if its blob were not compressed.
    pub fn index(&self) -> Index {
        Index::open(self.index_bytes()).unwrap()
    }

    fn index_bytes(&self) -> Vec<u8> {
        let leaves: Vec<_> = self
            .stream
            .chunks(LEAF_SIZE as usize)
            .map(Digest::of)
            .collect();
        let chunk = NewChunk {
            stream_start: StreamOffset(0),
            compressed_start: index_format::CompressedOffset(0),
            compressed_end: None,
            bit: 0,
            flags: index_format::ChunkFlags::FREE,
            checkpoint: Vec::new(),
        };
        let digest = Digest::of(&self.stream);
        write(&LayerParts {
            layer_digest: digest,
            diff_id: digest,
            compression: Compression::None,
            features: Features::default(),
            compressed_size: self.stream.len() as u64,
            stream_size: self.stream.len() as u64,
            tree: &self.tree,
            chunks: if self.stream.is_empty() {
                &[]
            } else {
                std::slice::from_ref(&chunk)
            },
            leaves: &leaves,
            headers: &[],
        })
        .unwrap()
    }
}

/// The bytes of the merged index of `layers`, bottom first.
pub fn merged(layers: &[Layer]) -> Vec<u8> {
    let indexes: Vec<_> = layers.iter().map(Layer::index).collect();
    merge(&indexes, &Limits::default()).unwrap().bytes
}

/// Bytes that differ everywhere, so that a displaced read is noticed.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}
