//! Where in an archive a reader is.

use crate::tar::compose::FileDraft;
use crate::tar::header::BLOCK;
use crate::tar::sparse::MapText;

/// A header whose content describes other entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKind {
    /// PAX, for the next entry.
    Local,
    /// PAX, for all entries that follow.
    Global,
    /// GNU, the next entry's name.
    LongName,
    /// GNU, the next entry's link target.
    LongLink,
}

/// An extended header whose content is being collected.
#[derive(Debug)]
pub struct Meta {
    /// What it is.
    pub kind: MetaKind,
    /// Start of its header block in the stream.
    pub offset: u64,
    /// Its content so far.
    pub content: Vec<u8>,
    /// Bytes still to come.
    pub remaining: u64,
}

/// What the next byte is part of.
#[derive(Debug)]
pub enum State {
    /// A header block.
    Header,
    /// A block that continues an old GNU sparse map.
    Extension(Box<FileDraft>),
    /// The content of an extended header.
    Meta(Meta),
    /// The map in front of a PAX 1.0 sparse file's data.
    Map(Box<FileDraft>, MapText),
    /// The rest of such a map's last block.
    MapPadding(Box<FileDraft>, u64),
    /// A file's data.
    Payload { remaining: u64, padding: u64 },
    /// Data that is no file's.
    Skipped { remaining: u64, padding: u64 },
    /// What fills the last block of data.
    Padding { remaining: u64 },
    /// Whatever stands behind the end mark.
    End,
    /// Nothing: an error was returned.
    Failed,
}

impl State {
    /// In `remaining` bytes of a file's data, or behind them when there are none.
    pub fn payload(remaining: u64, padding: u64) -> Self {
        if remaining > 0 {
            Self::Payload { remaining, padding }
        } else {
            Self::padding(padding)
        }
    }

    /// In `remaining` bytes of no file's data, or behind them when there are none.
    pub fn skipped(remaining: u64, padding: u64) -> Self {
        if remaining > 0 {
            Self::Skipped { remaining, padding }
        } else {
            Self::padding(padding)
        }
    }

    /// In `remaining` bytes of padding, or behind them when there are none.
    pub fn padding(remaining: u64) -> Self {
        if remaining > 0 {
            Self::Padding { remaining }
        } else {
            Self::Header
        }
    }
}

/// Bytes from `size` up to the next whole block.
pub fn padding_of(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// Splits off as much of `bytes` as `remaining` covers, and counts it down.
pub fn split_counted<'b>(bytes: &'b [u8], remaining: &mut u64) -> (&'b [u8], &'b [u8]) {
    let covered = usize::try_from(*remaining)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *remaining -= covered as u64;
    bytes.split_at(covered)
}
