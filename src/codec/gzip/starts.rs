//! Follows where chunks start in a gzip stream, and makes their checkpoints.
//!
//! A place becomes a chunk's start only when output follows it, so that no chunk is empty
//! and of several places with nothing between them the last one, which may be free, is taken.

use index_format::ChunkFlags;
use sys::inflate::WINDOW_SIZE;

use super::window::{self, MarkerDecoder};
use crate::chunks::{ChunkList, Start};
use crate::history::UsedBytes;
use crate::{CodecError, MAX_CHUNK_SIZE, ScanOptions};

/// Compressed bytes kept for finding a window's used bytes. 32 KiB of output take little
/// more than 32 KiB of input, unless there are thousands of empty blocks; then the whole
/// window is stored instead.
const MAX_RETAINED: usize = 1 << 20;

/// The start of a chunk whose use of the window is not known yet.
struct Block {
    start: Start,
    window: Vec<u8>,
    /// The compressed bytes from the start on; `None` when they were too many.
    retained: Option<Vec<u8>>,
}

impl Block {
    fn retain(&mut self, compressed: &[u8]) {
        if let Some(retained) = &mut self.retained {
            if retained.len() + compressed.len() > MAX_RETAINED {
                self.retained = None;
            } else {
                retained.extend_from_slice(compressed);
            }
        }
    }
}

/// A place where a chunk may start.
enum Place {
    Member(Start),
    Block(Block),
}

/// The starts of one scan.
pub(super) struct ChunkStarts {
    list: ChunkList,
    /// The latest place at which the open chunk may end; no output has followed it yet.
    pending: Option<Place>,
    /// The open chunk, until its checkpoint is made.
    open: Option<Block>,
    markers: Option<MarkerDecoder>,
}

impl ChunkStarts {
    pub(super) fn new(options: ScanOptions) -> ChunkStarts {
        let list = ChunkList::new(options, MAX_CHUNK_SIZE);
        ChunkStarts {
            list,
            pending: None,
            open: None,
            markers: None,
        }
    }

    /// Whether a block's start at these bytes would be taken.
    pub(super) fn wants(&self, stream: u64, compressed: u64) -> bool {
        self.list.wants_checkpoint(stream, compressed, 0)
    }

    /// A member's header starts here.
    pub(super) fn offer_member(&mut self, stream: u64, compressed: u64) {
        if self.list.wants_free(stream) {
            self.pending = Some(Place::Member(Start {
                stream,
                compressed,
                bit: 0,
            }));
        }
    }

    /// A block starts here; `shared` is the byte that it shares with the block before and
    /// `window` what precedes it in its member.
    pub(super) fn offer_block(&mut self, start: Start, shared: Option<u8>, window: &[u8]) {
        // Blocks without output between them have the same window; copying it for each one
        // would let a layer of empty blocks cost a thousand times its size.
        let window = match self.pending.take() {
            Some(Place::Block(block)) if block.start.stream == start.stream => block.window,
            _ => window.to_vec(),
        };
        let retained = Some(shared.into_iter().collect());
        self.pending = Some(Place::Block(Block {
            start,
            window,
            retained,
        }));
    }

    /// Compressed bytes of the deflate stream were consumed, yielding `produced` bytes of
    /// output, after which the stream has `stream` bytes.
    pub(super) fn advance(
        &mut self,
        compressed: &[u8],
        produced: usize,
        stream: u64,
    ) -> Result<(), CodecError> {
        if let Some(Place::Block(block)) = &mut self.pending {
            block.retain(compressed);
        }
        if let Some(open) = &mut self.open {
            open.retain(compressed);
        }
        if produced > 0
            && let Some(place) = self.pending.take()
        {
            self.open_chunk(place)?;
        }
        match &self.open {
            Some(open) if stream - open.start.stream >= WINDOW_SIZE as u64 => {
                self.make_checkpoint(stream)
            }
            _ => Ok(()),
        }
    }

    /// The member ends: nothing after it refers to what is before.
    pub(super) fn end_member(&mut self, stream: u64) -> Result<(), CodecError> {
        self.make_checkpoint(stream)
    }

    /// The member's trailer ends before this compressed byte, and it had content.
    pub(super) fn content_ends(&mut self, compressed: u64) {
        self.list.content_ends(compressed);
    }

    fn open_chunk(&mut self, place: Place) -> Result<(), CodecError> {
        match place {
            Place::Member(start) => {
                self.make_checkpoint(start.stream)?;
                self.list.push(start, ChunkFlags::FREE);
            }
            Place::Block(block) => {
                self.make_checkpoint(block.start.stream)?;
                self.list.push(block.start, ChunkFlags::WINDOW_SUFFICES);
                self.open = Some(block);
            }
        }
        Ok(())
    }

    /// Makes the open chunk's checkpoint; the chunk or its use of the window ends at `end`.
    fn make_checkpoint(&mut self, end: u64) -> Result<(), CodecError> {
        let Some(block) = self.open.take() else {
            return Ok(());
        };
        let length = usize::try_from(end - block.start.stream).unwrap_or(usize::MAX);
        let limit = length.min(WINDOW_SIZE);
        let markers = match &mut self.markers {
            Some(markers) => markers,
            none => none.insert(MarkerDecoder::new().map_err(|_| CodecError::NoMemory)?),
        };
        let (bit, window) = (block.start.bit, &block.window);
        let used = block
            .retained
            .and_then(|compressed| markers.used_bytes(&compressed, bit, window.len(), limit));
        let used = used.unwrap_or_else(|| UsedBytes::all(window.len()));
        self.list.set_checkpoint(window::encode(window, &used));
        Ok(())
    }

    /// The chunks, after the last member's end.
    pub(super) fn finish(self) -> ChunkList {
        self.list
    }
}
