//! What the reader accepts at most, and why.

/// Longest path of an entry or target of a link, in bytes: PATH_MAX is 4096 with its NUL, and no
/// unpacker could create a longer one.
pub const MAX_PATH: usize = 4095;

/// Longest component of a path, in bytes: NAME_MAX of Linux filesystems and of FUSE.
pub const MAX_NAME: usize = 255;

/// Deepest path, in components: each may make an implicit directory, so a 4 KiB path of
/// one-letter names would make 2048 inodes from one entry. Real trees stay far below.
pub const MAX_DEPTH: usize = 512;

/// Largest PAX header or GNU long name, in bytes: what Go's archive/tar, and so containerd, reads.
pub const MAX_EXTENDED_HEADER: u64 = 1 << 20;

/// Longest name of an extended attribute: XATTR_NAME_MAX of the kernel.
pub const MAX_XATTR_NAME: usize = 255;

/// Largest value of an extended attribute, in bytes: XATTR_SIZE_MAX of the kernel.
pub const MAX_XATTR_VALUE: usize = 64 << 10;

/// All names of one inode's extended attributes with a NUL each: XATTR_LIST_MAX of the kernel,
/// beyond which listxattr can only fail.
pub const MAX_XATTR_LIST: usize = 64 << 10;

/// Data extents of one sparse file. 24 bytes of memory and of index each, so 6 MiB.
pub const MAX_SPARSE_EXTENTS: usize = 1 << 18;

/// Data extents of all sparse files of one layer, 96 MiB of index.
pub const MAX_SPARSE_EXTENTS_PER_LAYER: u64 = 1 << 22;

/// Header blocks of one layer, extended ones included. An entry of GNU tar or PAX may have two or
/// three, so this is room for some three million files, three times the largest tree that brisk
/// is measured with; an inode costs about 100 bytes of index.
pub const MAX_ENTRIES: u64 = 1 << 23;

/// Names, link targets and extended attributes of all entries of one layer, in bytes: they are held
/// until the index is written. A million files with 40-byte names and a capability each have 80
/// MB; without a limit, a small bomb of attributes that differ would fill any memory.
pub const MAX_METADATA: u64 = 256 << 20;

/// Global PAX records kept at a time, in bytes of keys and values: they live until the end of the
/// archive, and each header may add to them.
pub const MAX_GLOBAL_RECORDS: usize = 1 << 20;

/// The limits that a caller may tighten or widen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TarLimits {
    /// See [`MAX_ENTRIES`].
    pub entries: u64,
    /// See [`MAX_EXTENDED_HEADER`]; in bytes.
    pub extended_header: u64,
    /// See [`MAX_SPARSE_EXTENTS`].
    pub sparse_extents: usize,
    /// See [`MAX_SPARSE_EXTENTS_PER_LAYER`].
    pub sparse_extents_per_layer: u64,
    /// See [`MAX_METADATA`]; in bytes.
    pub metadata: u64,
    /// See [`MAX_DEPTH`].
    pub depth: usize,
}

impl Default for TarLimits {
    fn default() -> Self {
        Self {
            entries: MAX_ENTRIES,
            extended_header: MAX_EXTENDED_HEADER,
            sparse_extents: MAX_SPARSE_EXTENTS,
            sparse_extents_per_layer: MAX_SPARSE_EXTENTS_PER_LAYER,
            metadata: MAX_METADATA,
            depth: MAX_DEPTH,
        }
    }
}
