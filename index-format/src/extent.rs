//! Where a file's bytes are in its layer's stream.

use crate::offset::{FileOffset, StreamOffset};

/// A run of a file's bytes that lies in one piece in the stream. What no extent of a file
/// covers is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Where the run starts in the file.
    pub file_offset: FileOffset,
    /// Where it starts in the layer's stream.
    pub stream_offset: StreamOffset,
    /// Bytes, at least one.
    pub length: u64,
}
