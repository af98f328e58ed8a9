//! Where the bytes of files come from: the edge between the mounted tree and the layers.

use index_format::StreamOffset;
use nix::errno::Errno;

/// One run of the bytes that a read asks for. The pieces of a read, in order and without gaps,
/// are the answer; none has the length zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `length` bytes of the uncompressed stream of layer number `layer` (as numbered in the
    /// merged index) from `offset`.
    Stream {
        /// Number of the layer in the merged index, 0 = the bottom one.
        layer: u32,
        /// Where the bytes start in that layer's stream.
        offset: StreamOffset,
        /// How many bytes, at least one.
        length: u64,
    },
    /// A hole of a sparse file: `length` zero bytes that no layer holds.
    Zeros {
        /// How many bytes, at least one.
        length: u64,
    },
}

impl Piece {
    /// Bytes of the answer that this piece gives.
    pub fn length(&self) -> u64 {
        match self {
            Self::Stream { length, .. } | Self::Zeros { length } => *length,
        }
    }
}

/// Takes the result of a read: all bytes of all pieces, or the errno that the caller gets.
///
/// It may be called on any thread. Bytes of another length than asked for are answered EIO:
/// a short read would be read as the end of the file. Dropping it without a call answers EIO too.
pub type Done = Box<dyn FnOnce(Result<&[u8], Errno>) + Send>;

/// What the mounted tree reads the content of files through.
pub trait Content: Send + Sync + 'static {
    /// Reads the bytes of `pieces` and hands them to `done`, exactly once: on this thread when
    /// every byte is local, else later from another thread.
    ///
    /// Must not block: the thread that calls it answers every request of the mount.
    fn read(&self, pieces: Vec<Piece>, done: Done);

    /// Whether [`Content::read`] of `pieces` would answer on the calling thread. Asked only while
    /// as many reads wait as the limit allows; `false`, the default, then refuses the read.
    fn is_local(&self, pieces: &[Piece]) -> bool {
        let _ = pieces;
        false
    }
}
