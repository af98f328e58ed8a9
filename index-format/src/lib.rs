//! The per-layer file index: bytes to structures and back.
//!
//! An [`Index`] says which files a layer (or, merged, a whole image) holds and which bytes of a
//! layer's uncompressed stream hold their content. It is read in place, from a `Vec` or a map:
//! [`Index::open`] looks at the header only, whatever the number of files. FORMAT.md beside
//! this crate's manifest is the byte-level specification.
//!
//! This floor knows no files, sockets, clocks or tasks.
#![forbid(unsafe_code)]

pub mod chunk;
pub mod digest;
pub mod directory;
pub mod error;
pub mod extent;
pub mod header;
pub mod index;
pub mod inode;
pub mod layers;
pub mod limit;
pub mod merge;
pub mod offset;
pub mod section;
pub mod startup;
pub mod tree;
pub mod validate;
pub mod wire;
pub mod write;
pub mod xattr;

mod draft;
mod leaf;
mod pool;
mod record;

pub use crate::chunk::{Chunk, ChunkFlags, NewChunk};
pub use crate::digest::{Digest, DigestError};
pub use crate::directory::{Entries, Entry};
pub use crate::error::FormatError;
pub use crate::extent::Extent;
pub use crate::header::{Compression, Features, IndexKind};
pub use crate::index::Index;
pub use crate::inode::{Device, FileKind, Inode, InodeNumber, Timestamp};
pub use crate::layers::MergedLayer;
pub use crate::limit::Limits;
pub use crate::merge::{MergeError, MergeWarning, Merged, merge};
pub use crate::offset::{CompressedOffset, FileOffset, StreamOffset};
pub use crate::section::SectionId;
pub use crate::tree::{FileData, Linked, Node, NodeContent, NodeId, Tree, TreeError};
pub use crate::write::{LayerParts, WriteError, write};

/// Bytes of a layer's uncompressed stream that one leaf digest covers, and so the unit of
/// verification, of presence in the cache and of packing. A last leaf may be shorter.
pub const LEAF_SIZE: u64 = 65536;
