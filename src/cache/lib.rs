//! The local copy of layers: digest and leaf number to verified bytes on disk.
//!
//! A layer's copy is its uncompressed stream as a sparse file and a bitmap of the present
//! leaves (64 KiB each). This floor knows no network and no layer format; it stores what its
//! caller has verified, forgets what the byte budget does not allow, and never lets a reader
//! see a hole: a read *pins* its leaves from the bitmap check to the end of the reply, and
//! eviction takes unpinned leaves only.
//!
//! On disk, below the cache's root:
//!
//! ```text
//! lock                                   held by the one process that uses the cache
//! trusted/LAYER/{stream,present,clean}
//! untrusted/REPOSITORY-INDEX/LAYER/...   leaves verified by an index that is not trusted
//! incoming/N/                            being written or removed; emptied at start
//! ```
//!
//! `stream` is never fsynced while in use. `clean` exists only while nobody uses the layer and
//! says that `stream` and `present` reached the disk; without it every present leaf is
//! *suspect* and has to be verified once more before it is served.

mod bitmap;
mod budget;
mod catalog;
mod error;
mod evict;
mod layer_file;
mod leaf_table;
mod local_stream;
mod pinned;
mod presence;
mod root;
mod scope;
mod writer;

pub use budget::{Budget, Usage};
pub use error::CacheError;
pub use layer_file::{LayerFile, NotKept, Priority, Stored};
pub use pinned::Pinned;
pub use root::{Cache, LayerUsage};
pub use scope::{LayerKey, Scope};
pub use writer::{LayerWriter, Written};

#[cfg(test)]
mod tests;
