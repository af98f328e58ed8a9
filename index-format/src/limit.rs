//! Every limit of the format, each with its reason.

/// Bytes of one file name: the kernel's NAME_MAX (`linux/limits.h`).
pub const MAX_NAME_LENGTH: usize = 255;

/// Bytes of a symlink's target, or of the target path of a hardlink into another layer: the
/// kernel's PATH_MAX without its closing NUL.
pub const MAX_TARGET_LENGTH: usize = 4095;

/// Directories between the root and a file. A path of PATH_MAX bytes cannot name more, so
/// nothing deeper could be reached by one.
pub const MAX_DEPTH: u32 = 2048;

/// Inodes of one index. Sixteen times the million files that the format is made for; keeps
/// the inode section (56 bytes each) below one GiB.
pub const MAX_INODES: u32 = 1 << 24;

/// Names of one index, hardlinks included. Kept apart from the inodes so that a layer of
/// nothing but hardlinks is bounded as well.
pub const MAX_ENTRIES: u32 = 1 << 25;

/// Bytes of the pool that holds names, targets and xattrs, so that its offsets fit 32 bits
/// with room to spare.
pub const MAX_POOL_SIZE: u64 = 1 << 30;

/// Bytes of an xattr's name: the kernel's XATTR_NAME_MAX.
pub const MAX_XATTR_NAME_LENGTH: usize = 255;

/// Bytes of an xattr's value: the kernel's XATTR_SIZE_MAX.
pub const MAX_XATTR_VALUE_LENGTH: usize = 65536;

/// Bytes of all xattr names of one inode with a NUL after each: the kernel's XATTR_LIST_MAX,
/// beyond which listxattr(2) cannot answer.
pub const MAX_XATTR_LIST_LENGTH: usize = 65536;

/// Bytes of a layer's uncompressed stream: 1 TiB, whose leaf digests take 512 MiB.
pub const MAX_STREAM_SIZE: u64 = 1 << 40;

/// Chunks of a layer: as many as leaves, since no chunk is worth less than a leaf.
pub const MAX_CHUNKS: u64 = MAX_STREAM_SIZE / crate::LEAF_SIZE;

/// Size of a file. Only a sparse file can be larger than the stream; the kernel's MAX_LFS_FILESIZE
/// is the largest `i64`.
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

/// Extents of all sparse files of one index.
pub const MAX_EXTENTS: u32 = 1 << 24;

/// Layers of one image. Overlay drivers stop at 128 or 500; a thousand leaves room and bounds
/// the work of merging.
pub const MAX_LAYERS: usize = 1024;

/// Records of the section table. This version writes 12; more leaves room for minor versions.
pub const MAX_SECTIONS: u32 = 64;

/// Symlinks followed while one path's directories are resolved: the kernel's own limit
/// (MAXSYMLINKS in `linux/namei.h`).
pub const MAX_SYMLINK_HOPS: u32 = 40;

/// Components looked at while one path is resolved, those from followed symlinks included;
/// bounds what a hostile layer of symlinks into symlinks can cost per entry.
pub const MAX_RESOLVE_STEPS: u32 = 4096;

/// What a caller is ready to hold in memory for one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the header and all hot sections together, uncompressed.
    pub hot_size: u64,
    /// Bytes of any one cold section, uncompressed.
    pub cold_section_size: u64,
}

impl Default for Limits {
    /// 512 MiB each: five million files at the measured 97 bytes, and checkpoints of a layer of
    /// 50 GB at the measured one percent.
    fn default() -> Limits {
        Limits {
            hot_size: 512 << 20,
            cold_section_size: 512 << 20,
        }
    }
}
