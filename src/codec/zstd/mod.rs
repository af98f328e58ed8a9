//! zstd (RFC 8878): frames one after another, stock ones and those of zstd:chunked alike.
//!
//! A frame's start needs no history. Inside a frame a chunk can start between two blocks:
//! what a decoder must know there (Huffman table, three FSE tables, three repeated offsets,
//! the bytes before) is exactly what a *structured dictionary* of the format holds. So a
//! checkpoint is such a dictionary in a compact form, and a chunk is decoded by putting its
//! original blocks into a frame of their own and handing both to libzstd.
//!
//! The stream itself always comes from libzstd. Beside it, our own reader follows the blocks'
//! headers and sequences (not their literals) to learn the tables, the repeated offsets and
//! which bytes before a chunk it refers to.

mod bits;
mod block;
mod decode;
mod dictionary;
mod entropy;
mod frame;
mod scan;
mod sequences;
mod starts;

pub(super) use self::decode::decode_chunk;
pub(super) use self::dictionary::history_length;
pub(super) use self::scan::ZstdScanner;
