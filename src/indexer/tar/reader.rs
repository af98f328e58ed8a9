//! The push parser: a state machine fed with slices of the stream, cut anywhere.

mod blocks;
mod files;

use crate::tar::compose::Extension;
use crate::tar::error::{TarError, Warning};
use crate::tar::header::BLOCK;
use crate::tar::limit::TarLimits;
use crate::tar::pax::Records;
use crate::tar::state::{State, padding_of, split_counted};
use crate::tar::visitor::Visitor;

/// Reads a tar stream that is pushed in. Nothing is buffered but the header being read.
#[derive(Debug)]
pub struct TarReader {
    limits: TarLimits,
    state: State,
    /// Bytes consumed so far.
    position: u64,
    block: Box<[u8; BLOCK]>,
    block_filled: usize,
    after_zero_block: bool,
    globals: Records,
    extension: Extension,
    headers: u64,
    sparse_extents: u64,
    metadata: u64,
}

impl TarReader {
    /// A reader at the start of a stream.
    pub fn new(limits: TarLimits) -> Self {
        Self {
            limits,
            state: State::Header,
            position: 0,
            block: Box::new([0; BLOCK]),
            block_filled: 0,
            after_zero_block: false,
            globals: Records::default(),
            extension: Extension::default(),
            headers: 0,
            sparse_extents: 0,
            metadata: 0,
        }
    }

    /// Feeds the next bytes of the stream.
    ///
    /// Feeds the next bytes of the stream.
    ///
    /// # Errors
    /// A [`TarError`], or the visitor's own. The reader is of no use afterwards.
    pub fn push<V: Visitor>(&mut self, mut bytes: &[u8], visitor: &mut V) -> Result<(), V::Error> {
        while !bytes.is_empty() {
            let state = std::mem::replace(&mut self.state, State::Failed);
            (self.state, bytes) = self.step(state, bytes, visitor)?;
        }
        Ok(())
    }

    /// Says that the stream has ended. The end mark may be missing, and so may the last entry's
    /// padding: Go's reader accepts that, and archives without them exist.
    ///
    /// # Errors
    /// [`TarError::Truncated`] inside a header or its data.
    pub fn finish<V: Visitor>(self, visitor: &mut V) -> Result<(), V::Error> {
        let inside = match self.state {
            State::Header if self.block_filled > 0 => "a header block",
            State::Header | State::Padding { .. } | State::End => {
                if !self.extension.is_empty() {
                    visitor.warning(Warning::DanglingHeader);
                }
                return Ok(());
            }
            State::Extension(_) | State::Map(..) | State::MapPadding(..) => "a sparse map",
            State::Meta(_) => "an extended header",
            State::Payload { .. } | State::Skipped { .. } => "the data of an entry",
            State::Failed => return Err(TarError::Failed.into()),
        };
        Err(TarError::Truncated {
            offset: self.position,
            inside,
        }
        .into())
    }

    /// Consumes at least one byte; returns the next state and what is left.
    fn step<'b, V: Visitor>(
        &mut self,
        state: State,
        bytes: &'b [u8],
        visitor: &mut V,
    ) -> Result<(State, &'b [u8]), V::Error> {
        match state {
            State::Header => {
                let (complete, rest) = self.collect(bytes, visitor)?;
                let header = complete.then(|| self.header(visitor)).transpose()?;
                Ok((header.unwrap_or(State::Header), rest))
            }
            State::Extension(draft) => {
                let (complete, rest) = self.collect(bytes, visitor)?;
                if !complete {
                    return Ok((State::Extension(draft), rest));
                }
                Ok((self.continue_map(draft, visitor)?, rest))
            }
            State::Meta(mut meta) => {
                let (taken, rest) = self.frame(bytes, &mut meta.remaining, visitor)?;
                meta.content.extend_from_slice(taken);
                if meta.remaining > 0 {
                    return Ok((State::Meta(meta), rest));
                }
                self.extend(&meta, visitor)?;
                Ok((State::padding(padding_of(self.position)), rest))
            }
            State::Map(draft, map) => self.map_text(draft, map, bytes, visitor),
            State::MapPadding(draft, mut remaining) => {
                let (_, rest) = self.frame(bytes, &mut remaining, visitor)?;
                if remaining > 0 {
                    return Ok((State::MapPadding(draft, remaining), rest));
                }
                Ok((self.file(*draft, visitor)?, rest))
            }
            State::Payload {
                mut remaining,
                padding,
            } => {
                let (taken, rest) = split_counted(bytes, &mut remaining);
                self.position += taken.len() as u64;
                visitor.payload(taken)?;
                Ok((State::payload(remaining, padding), rest))
            }
            State::Skipped {
                mut remaining,
                padding,
            } => {
                let (_, rest) = self.frame(bytes, &mut remaining, visitor)?;
                Ok((State::skipped(remaining, padding), rest))
            }
            State::Padding { mut remaining } => {
                let (_, rest) = self.frame(bytes, &mut remaining, visitor)?;
                Ok((State::padding(remaining), rest))
            }
            State::End => {
                let mut unlimited = u64::MAX;
                let (_, rest) = self.frame(bytes, &mut unlimited, visitor)?;
                Ok((State::End, rest))
            }
            State::Failed => Err(TarError::Failed.into()),
        }
    }

    /// Hands on up to `remaining` bytes that are no file's data, and counts them down. Returns
    /// them and what is left.
    fn frame<'b, V: Visitor>(
        &mut self,
        bytes: &'b [u8],
        remaining: &mut u64,
        visitor: &mut V,
    ) -> Result<(&'b [u8], &'b [u8]), V::Error> {
        let (taken, rest) = split_counted(bytes, remaining);
        self.position += taken.len() as u64;
        visitor.framing(taken)?;
        Ok((taken, rest))
    }

    /// Fills the block buffer. Returns whether it is complete.
    fn collect<'b, V: Visitor>(
        &mut self,
        bytes: &'b [u8],
        visitor: &mut V,
    ) -> Result<(bool, &'b [u8]), V::Error> {
        let mut wanted = (BLOCK - self.block_filled) as u64;
        let (taken, rest) = self.frame(bytes, &mut wanted, visitor)?;
        let end = self.block_filled + taken.len();
        self.block[self.block_filled..end].copy_from_slice(taken);
        self.block_filled = end % BLOCK;
        Ok((self.block_filled == 0, rest))
    }
}
