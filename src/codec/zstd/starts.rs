//! Follows where chunks start in a zstd stream, and makes their checkpoints.
//!
//! A place becomes a chunk's start only when output follows it, so that no chunk is empty and
//! of several places with nothing between them the last one, which may be free, is taken.

use super::block::{Compressed, Huffman};
use super::dictionary::{Head, MAX_HISTORY};
use super::entropy::{Field, Origin};
use super::frame::FrameHeader;
use super::sequences::{FrameState, Stumbled};
use crate::chunks::{ChunkList, Start};
use crate::history::UsedBytes;
use crate::{MAX_GROWN_CHUNK, ScanOptions, StreamOnly};
use index_format::ChunkFlags;

/// A place where a chunk may start.
#[derive(Clone, Copy)]
enum Place {
    Frame(Start),
    Block(Start),
}

/// An open chunk that started inside the current frame.
struct OpenChunk {
    /// The state at its start, with every table that could be repeated.
    head: Head,
    /// Its start in the frame's content, and how much history is kept before it.
    base: u64,
    reach: usize,
    used: UsedBytes,
    /// Whether the Huffman table and the FSE tables have been replaced since.
    replaced: [bool; 4],
    /// Whether they were repeated before that.
    repeated: [bool; 4],
}

/// The place of the Huffman table in the two arrays; the FSE tables are before it.
const HUFFMAN: usize = 3;

impl OpenChunk {
    /// Notes which tables of before the chunk a block uses.
    fn note_tables(&mut self, block: &Compressed<'_>) {
        for field in Field::ALL {
            let table = field as usize;
            self.repeated[table] |= block.repeats(field) && !self.replaced[table];
            self.replaced[table] |= block.replaces(field);
        }
        self.repeated[HUFFMAN] |= block.huffman == Huffman::Repeat && !self.replaced[HUFFMAN];
        self.replaced[HUFFMAN] |= matches!(block.huffman, Huffman::New(_));
    }

    /// Notes a match, which may come from before the chunk.
    #[inline]
    fn note_match(&mut self, from: u64, length: u32) -> Result<(), Stumbled> {
        if from >= self.base {
            return Ok(());
        }
        let oldest = self.base - self.reach as u64;
        let start = from
            .checked_sub(oldest)
            .ok_or("a match before the window")?;
        let end = (from + u64::from(length)).min(self.base) - oldest;
        self.used.mark(start as usize..end as usize);
        Ok(())
    }

    /// About how many bytes its record will take: history compresses to half or so, and it is
    /// not worth making it to know.
    fn about_bytes(&self) -> u64 {
        self.used.count() as u64 / 2
    }

    fn encode(mut self, history: &[u8]) -> Vec<u8> {
        for (table, repeated) in self.head.tables.iter_mut().zip(self.repeated) {
            table.take_if(|_| !repeated);
        }
        self.head.huffman.take_if(|_| !self.repeated[HUFFMAN]);
        self.head.encode(&history[..self.reach], &self.used)
    }
}

/// The starts of one scan, and the state of its current frame.
pub(super) struct ChunkStarts {
    list: ChunkList,
    /// The latest place at which the open chunk may end; no output has followed it yet.
    pending: Option<Place>,
    open: Option<OpenChunk>,
    frame: Option<(FrameHeader, FrameState)>,
    /// The frame's content from `reach` bytes before the open chunk on, or from its start.
    history: Vec<u8>,
    stream: u64,
    stream_only: Option<StreamOnly>,
    /// Checkpoints are made: blocks are followed and history is kept.
    is_following: bool,
}

impl ChunkStarts {
    pub(super) fn new(options: ScanOptions) -> ChunkStarts {
        ChunkStarts {
            list: ChunkList::new(options, MAX_GROWN_CHUNK),
            pending: None,
            open: None,
            frame: None,
            history: Vec::new(),
            stream: 0,
            stream_only: None,
            is_following: true,
        }
    }

    /// No checkpoints will be asked for.
    pub(super) fn keep_nothing(&mut self) {
        self.is_following = false;
    }

    fn start_here(&self, compressed: u64) -> Start {
        Start {
            stream: self.stream,
            compressed,
            bit: 0,
        }
    }

    /// A frame starts at this compressed byte.
    pub(super) fn start_frame(&mut self, header: FrameHeader, compressed: u64) {
        self.frame = Some((header, FrameState::new()));
        if self.list.wants_free(self.stream) {
            self.pending = Some(Place::Frame(self.start_here(compressed)));
        }
    }

    /// A block's header starts at this compressed byte.
    pub(super) fn start_block(&mut self, compressed: u64) {
        let position = self.frame.as_ref().map_or(0, |(_, state)| state.position);
        if position > 0 && self.is_following && self.list.wants_free(self.stream) {
            let open = self.open.as_ref().map_or(0, OpenChunk::about_bytes);
            if self.list.wants_checkpoint(self.stream, compressed, open) {
                self.pending = Some(Place::Block(self.start_here(compressed)));
            }
        }
    }

    /// A raw or repeated block with this much content comes.
    pub(super) fn follow_plain(&mut self, size: usize) {
        if size == 0 {
            return;
        }
        self.open_pending(None);
        if let Some((_, state)) = &mut self.frame {
            state.skip(size);
        }
    }

    /// A compressed block comes, with this body.
    pub(super) fn follow_compressed(&mut self, body: &[u8]) {
        if !self.is_following {
            self.open_pending(None);
            return;
        }
        let result = match Compressed::parse(body) {
            Some(block) => {
                self.open_pending(Some(&block));
                self.follow_block(&block)
            }
            None => {
                self.open_pending(None);
                Err("a block's headers make no sense")
            }
        };
        if let Err(reason) = result {
            self.give_up(StreamOnly::UnknownBlocks { reason });
        }
    }

    fn follow_block(&mut self, block: &Compressed<'_>) -> Result<(), Stumbled> {
        let Some((_, state)) = &mut self.frame else {
            return Err("a block outside of frames");
        };
        match &mut self.open {
            Some(open) => {
                open.note_tables(block);
                state.follow(block, |from, length| open.note_match(from, length))
            }
            None => state.follow(block, |_, _| Ok(())),
        }
    }

    /// The stream goes on by these bytes, which the blocks announced so far have yielded.
    pub(super) fn add_content(&mut self, bytes: &[u8]) {
        self.stream += bytes.len() as u64;
        if self.is_following {
            self.history.extend_from_slice(bytes);
        }
    }

    /// The block ends; `content` is how much of the frame's content libzstd has made so far.
    pub(super) fn end_block(&mut self, content: u64) {
        if !self.is_following {
            // Only the emptiness of the frame is still asked for.
            if let Some((_, state)) = &mut self.frame {
                state.position = content;
            }
            return;
        }
        let Some((_, state)) = &self.frame else {
            return;
        };
        if state.position != content {
            let reason = "a block yields another length than its headers say";
            self.give_up(StreamOnly::UnknownBlocks { reason });
        }
        if self.list.is_too_long(self.stream) {
            let start = self.list.last_start().unwrap_or(0);
            self.give_up(StreamOnly::LongChunk {
                length: self.stream - start,
            });
        }
    }

    /// The frame ends before this compressed byte.
    pub(super) fn end_frame(&mut self, compressed: u64) {
        let position = self.frame.take().map_or(0, |(_, state)| state.position);
        self.close_open();
        self.history.clear();
        if position > 0 {
            self.list.content_ends(compressed);
        }
    }

    /// No chunk but free ones from here on.
    fn give_up(&mut self, reason: StreamOnly) {
        self.stream_only.get_or_insert(reason);
        self.is_following = false;
        self.pending
            .take_if(|place| matches!(place, Place::Block(_)));
        self.open = None;
        self.history = Vec::new();
    }

    /// Output follows the pending place: a chunk starts there, if a checkpoint can be made.
    fn open_pending(&mut self, block: Option<&Compressed<'_>>) {
        match self.pending.take() {
            None => {}
            Some(Place::Frame(start)) => {
                self.close_open();
                self.list.push(start, ChunkFlags::FREE);
            }
            Some(Place::Block(start)) => self.open_inside(start, block),
        }
    }

    fn open_inside(&mut self, start: Start, block: Option<&Compressed<'_>>) {
        let Some((header, state)) = &self.frame else {
            return;
        };
        let reach = state.position.min(header.window);
        if reach > MAX_HISTORY {
            let limit = MAX_HISTORY;
            return self.give_up(StreamOnly::LargeWindow {
                window: header.window,
                limit,
            });
        }
        let head = Head {
            window: header.window,
            checksum: header.checksum,
            offsets: state.offsets,
            huffman: state.huffman.clone(),
            tables: state
                .tables
                .each_ref()
                .map(|table| match &table.as_ref()?.origin {
                    Origin::Described(description) => Some(description.clone()),
                    // A dictionary without a description has this one.
                    Origin::Predefined | Origin::Repeated => None,
                }),
        };
        // A table of one symbol fits no dictionary; the chunk must replace it at once.
        let is_said = |field: Field| {
            let origin = state.tables[field as usize]
                .as_ref()
                .map(|table| &table.origin);
            origin != Some(&Origin::Repeated) || block.is_some_and(|block| block.replaces(field))
        };
        if head.least_history() > reach || !Field::ALL.into_iter().all(is_said) {
            return;
        }
        let (base, reach) = (state.position, reach as usize);
        self.close_open();
        self.history.drain(..self.history.len() - reach);
        self.list.push(start, ChunkFlags::default());
        self.open = Some(OpenChunk {
            head,
            base,
            reach,
            used: UsedBytes::none(reach),
            replaced: [false; 4],
            repeated: [false; 4],
        });
    }

    fn close_open(&mut self) {
        if let Some(open) = self.open.take() {
            self.list.set_checkpoint(open.encode(&self.history));
        }
    }

    /// The chunks, and why they are of no use where that is so.
    pub(super) fn finish(self) -> (ChunkList, Option<StreamOnly>) {
        (self.list, self.stream_only)
    }
}
