//! The mounted tree of an image: semantics over a merged index, and a thin fuser adapter.
#![forbid(unsafe_code)]

pub mod content;

pub use content::{Content, Done, Piece};
