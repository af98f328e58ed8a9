//! From a layer's stream to its index: hostile-input tar reader and the streaming builder.

mod apply;
pub mod builder;
pub mod closing;
pub mod detect;
pub mod error;
mod hashing;
pub mod headers;
mod pass;
pub mod sink;
pub mod tar;
pub mod warnings;

pub use builder::{BuiltIndex, IndexOptions, LayerIndexer, MAX_STREAM_SIZE};
pub use detect::detect;
pub use error::IndexerError;
pub use sink::{Discard, StreamSink, WriteSink};
pub use tar::Warning;
pub use warnings::Warnings;

#[cfg(test)]
mod tests;
