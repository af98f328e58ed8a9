//! The leaves of a layer file one after another, from a place that needs no history, where
//! chunks cannot be decoded one by one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use index_format::{Chunk, ChunkFlags, Compression, Index, LEAF_SIZE, StreamOffset};

use crate::cli::error::{CliError, because};
use brisk_codec::CodecError;

/// Bytes of the layer file read at a time.
const STEP: u64 = 256 << 10;

/// Leaves that wait to be taken.
const LEAVES_AHEAD: usize = 4;

/// A decoder on its way through a layer file, on a thread of its own that ends with this.
pub struct Passage {
    next: u64,
    leaves: Receiver<Result<Vec<u8>, CliError>>,
    layer: PathBuf,
}

/// What the thread works on.
struct Way {
    file: File,
    compression: Compression,
    /// The next byte of the file, and where it ends.
    compressed: u64,
    end: u64,
    /// The next byte of the stream, and where it ends.
    stream: u64,
    stream_size: u64,
    leaf: Vec<u8>,
}

/// Nobody takes leaves any more.
#[derive(Debug, thiserror::Error)]
#[error("the passage has ended")]
struct Ended;

impl Passage {
    /// A passage from the nearest free chunk at or before a leaf.
    pub fn start(index: &Index, file: &File, layer: PathBuf, leaf: u64) -> Result<Self, CliError> {
        let at = StreamOffset(leaf * LEAF_SIZE);
        let mut number = index.chunk_containing(at).map_err(because)?;
        let mut chunk = index.chunk(number).map_err(because)?;
        while number > 0 && !is_free(index, &chunk) {
            number -= 1;
            chunk = index.chunk(number).map_err(because)?;
        }
        let way = Way {
            file: file.try_clone().map_err(because)?,
            compression: index.compression(),
            compressed: chunk.compressed.start,
            end: index.compressed_size(),
            stream: chunk.stream.start,
            stream_size: index.stream_size(),
            leaf: Vec::new(),
        };
        let (send, leaves) = sync_channel(LEAVES_AHEAD);
        std::thread::Builder::new()
            .name("passage".to_owned())
            .spawn(move || way.go(&send))
            .map_err(because)?;
        Ok(Passage {
            next: chunk.stream.start.div_ceil(LEAF_SIZE),
            leaves,
            layer,
        })
    }

    /// Whether a leaf is still to come.
    pub fn reaches(&self, leaf: u64) -> bool {
        self.next <= leaf
    }

    /// The bytes of a leaf that is still to come, not verified.
    pub fn leaf(&mut self, leaf: u64) -> Result<Vec<u8>, CliError> {
        loop {
            let received = self.leaves.recv();
            let bytes = received.unwrap_or_else(|_| {
                Err(CliError::new("its stream is shorter than the index says"))
            });
            let layer = self.layer.display();
            let bytes =
                bytes.map_err(|error| CliError::new(format!("{layer}: {:#}", error.error)))?;
            self.next += 1;
            if self.next > leaf {
                return Ok(bytes);
            }
        }
    }
}

fn is_free(index: &Index, chunk: &Chunk) -> bool {
    index.compression() == Compression::None || chunk.flags.contains(ChunkFlags::FREE)
}

impl Way {
    fn go(mut self, leaves: &SyncSender<Result<Vec<u8>, CliError>>) {
        if let Err(error) = self.decode(leaves) {
            // Nobody may be there to hear it.
            let _ = leaves.send(Err(error));
        }
    }

    fn decode(&mut self, leaves: &SyncSender<Result<Vec<u8>, CliError>>) -> Result<(), CliError> {
        let left = self.stream_size.saturating_sub(self.stream);
        let mut scanner = brisk_codec::streamer(self.compression, left);
        let mut buffer = vec![0; STEP as usize];
        while self.compressed < self.end {
            let step = STEP.min(self.end - self.compressed);
            let bytes = &mut buffer[..step as usize];
            self.file
                .read_exact_at(bytes, self.compressed)
                .map_err(because)?;
            self.compressed += step;
            let pushed = scanner.push(bytes, &mut |piece| self.take(piece, leaves));
            match pushed {
                Err(CodecError::Sink(_)) => return Ok(()),
                pushed => pushed.map_err(because)?,
            }
        }
        Ok(())
    }

    /// Hands on every leaf that this piece of the stream completes.
    fn take(
        &mut self,
        mut piece: &[u8],
        leaves: &SyncSender<Result<Vec<u8>, CliError>>,
    ) -> Result<(), CodecError> {
        while !piece.is_empty() {
            let start = self.stream / LEAF_SIZE * LEAF_SIZE;
            let end = (start + LEAF_SIZE).min(self.stream_size);
            let taken = piece.len().min((end - self.stream) as usize);
            // Of a leaf that was entered half-way there is nothing to give.
            if self.stream - self.leaf.len() as u64 == start {
                self.leaf.extend_from_slice(&piece[..taken]);
            }
            self.stream += taken as u64;
            piece = &piece[taken..];
            if self.stream == end {
                let leaf = std::mem::take(&mut self.leaf);
                if leaf.len() as u64 == end - start {
                    let sent = leaves.send(Ok(leaf));
                    sent.map_err(|_| CodecError::Sink(Box::new(Ended)))?;
                }
            }
        }
        Ok(())
    }
}
