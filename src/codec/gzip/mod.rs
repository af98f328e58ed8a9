//! gzip (RFC 1952) of any writer: members one after another, each a deflate stream.
//!
//! A deflate block can start at any bit and refers to the 32 KiB before it. A checkpoint is
//! thus a position in bits and a window; of the window only those bytes are kept that the
//! chunk refers to, which are found by decoding the chunk's first 32 KiB with windows of
//! markers (see `window`). A member's start needs no window at all.

mod decode;
mod header;
mod scan;
mod starts;
mod window;

pub(super) use self::decode::decode_chunk;
pub(super) use self::scan::GzipScanner;
pub(super) use self::window::history_length;
