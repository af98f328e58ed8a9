//! What the reader hands out: one entry of the archive, with everything that its headers say.

/// A point in time, as an inode keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryTime {
    /// Seconds since the epoch, rounded down.
    pub seconds: i64,
    /// Nanoseconds above that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// A run of a file's bytes that stands in the stream. What no extent covers is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataExtent {
    /// Where in the file, in bytes.
    pub file_offset: u64,
    /// Where in the uncompressed stream, in bytes.
    pub stream_offset: u64,
    /// How many bytes; never zero.
    pub length: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular {
        /// Logical size in bytes.
        size: u64,
        /// Its data, ascending and apart. A file that is not sparse has at most one.
        extents: Vec<DataExtent>,
        /// Whether the archive said so; a sparse file may still have no hole.
        sparse: bool,
    },
    /// A symbolic link with its target, which may be any bytes but NUL.
    Symlink(Vec<u8>),
    /// Another name for the inode at this cleaned path.
    Hardlink(Vec<u8>),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Extended attributes as (name, value), sorted by name, names unique.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One entry of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path from the layer's root without leading, trailing or doubled slashes and without `.`;
    /// empty for the root itself. Any bytes but NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Mode bits 07777.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: EntryTime,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Entry {
    /// Bytes of the last name, the link target and the extended attributes.
    pub fn metadata_length(&self) -> u64 {
        let name = self
            .path
            .rsplit(|byte| *byte == b'/')
            .next()
            .map_or(0, <[u8]>::len);
        let target = match &self.kind {
            EntryKind::Symlink(target) | EntryKind::Hardlink(target) => target.len(),
            _ => 0,
        };
        let xattrs: usize = self
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        (name + target + xattrs) as u64
    }
}
