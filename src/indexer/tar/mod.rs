//! A streaming reader of tar archives as image layers have them: v7, ustar, PAX, GNU and star,
//! with sparse files. Bytes are pushed in, cut anywhere; entries with their places in the stream
//! come out. Every input is taken for hostile: all numbers are checked, all sizes limited.
//!
//! Where the formats leave room, it reads as Go's archive/tar does, because containerd and Docker
//! do. It knows tar alone: whiteouts and replaced entries are its caller's.

mod compose;
pub mod entry;
pub mod error;
mod header;
pub mod limit;
mod number;
mod path;
mod pax;
pub mod reader;
mod sparse;
mod state;
pub mod visitor;

pub use entry::{DataExtent, Entry, EntryKind, EntryTime};
pub use error::{TarError, Warning};
pub use limit::TarLimits;
pub use reader::TarReader;
pub use visitor::Visitor;

#[cfg(test)]
pub mod fixture;
#[cfg(test)]
mod tests;
