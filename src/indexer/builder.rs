//! From a compressed layer, pushed in as it arrives, to its index.

use std::sync::Arc;

use index_format::write::{lay_out_tree, write_laid_out};
use index_format::{Compression, Digest, Features, LayerParts, NewChunk, Tree};

use crate::error::IndexerError;
use crate::hashing::{BLOCK_SIZE, Block, Hashers};
use crate::headers::MAX_HEADERS;
use crate::pass::StreamPass;
use crate::sink::StreamSink;
use crate::tar::TarLimits;
use crate::warnings::Warnings;
use brisk_codec::{self, CodecError, Scan, ScanOptions, ScannedChunk, Scanner, StreamOnly};

/// Chunk size of gzip layers in bytes of the stream: checkpoints then cost 0.6 % of the layer, and
/// a 64 KiB read some 1.0 ms and 160 KiB from the wire. Chosen by what the start of an application
/// fetches, index included (bench/RESULTS.md): half of this saves little and doubles the requests.
pub const GZIP_CHUNK_SIZE: u64 = 1 << 20;

/// Chunk size of zstd layers in bytes of the stream: zstd's windows are larger, so checkpoints
/// are. Where they would still cost more than one in a hundred bytes of the layer, chunks grow.
pub const ZSTD_CHUNK_SIZE: u64 = 8 << 20;

/// Chunk size of plain layers in bytes: any byte can be asked for, so only the size of the
/// table (40 bytes each) speaks against smaller ones.
pub const PLAIN_CHUNK_SIZE: u64 = 1 << 20;

/// Longest stream that is read when the caller does not know better, in bytes. The largest images
/// that people use have layers of some tens of GiB; a bomb of deflate makes this from 130 MB.
pub const MAX_STREAM_SIZE: u64 = 128 << 30;

/// Inodes of one layer, replaced ones and implicit directories included. Some 250 bytes of memory
/// each until the index is written; a path of 4 KiB can make hundreds of them.
pub const MAX_INODES: u32 = 1 << 22;

/// How to index a layer.
#[derive(Debug, Clone, Copy)]
pub struct IndexOptions {
    /// Chunks end at the first possible place after this many bytes of the stream. `None` is the
    /// compression's own default, from which chunks grow where their checkpoints would take more
    /// than [`brisk_codec::CHECKPOINT_SHARE`] of the layer.
    pub chunk_size: Option<u64>,
    /// A stream longer than this many bytes is refused.
    pub max_stream_size: u64,
    /// Largest headers section that is kept, in bytes; 0 keeps none. See
    /// [`crate::headers`].
    pub max_headers: usize,
    /// See [`MAX_INODES`].
    pub max_inodes: u32,
    /// Limits of the tar.
    pub tar: TarLimits,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            chunk_size: None,
            max_stream_size: MAX_STREAM_SIZE,
            max_headers: MAX_HEADERS,
            max_inodes: MAX_INODES,
            tar: TarLimits::default(),
        }
    }
}

/// Chunk size of a compression when nothing else is asked for, in bytes of the stream.
#[must_use]
pub fn default_chunk_size(compression: Compression) -> u64 {
    match compression {
        Compression::None => PLAIN_CHUNK_SIZE,
        Compression::Gzip => GZIP_CHUNK_SIZE,
        Compression::Zstd => ZSTD_CHUNK_SIZE,
    }
}

/// The index of a layer and what was learnt on the way.
#[derive(Debug, Clone)]
pub struct BuiltIndex {
    /// The complete index file.
    pub bytes: Vec<u8>,
    /// Digest of the compressed bytes; the caller compares it with what was asked for.
    pub layer_digest: Digest,
    /// Digest of the stream; the caller compares it with the config's.
    pub diff_id: Digest,
    /// Bytes of the compressed layer.
    pub compressed_size: u64,
    /// Bytes of the stream.
    pub stream_size: u64,
    /// Why single chunks of this layer cannot be asked for, when that is so.
    pub stream_only: Option<StreamOnly>,
    /// Oddities of the layer.
    pub warnings: Warnings,
}

/// Indexes a layer whose compressed bytes are pushed in, in bounded memory: the tree, 32 bytes a
/// leaf, the checkpoints and the headers section stay until the end, content does not.
pub struct LayerIndexer {
    compression: Compression,
    scanner: Box<dyn Scanner>,
    compressed: Vec<u8>,
    pass: StreamPass,
    failed: bool,
}

impl LayerIndexer {
    /// An indexer at the start of a layer.
    ///
    /// # Errors
    /// [`IndexerError::Start`] when there is no thread or no memory for it.
    pub fn new(compression: Compression, options: IndexOptions) -> Result<Self, IndexerError> {
        let chunk_size = options
            .chunk_size
            .unwrap_or(default_chunk_size(compression));
        let scan = ScanOptions {
            chunk_size,
            max_stream_size: options.max_stream_size,
            grows: options.chunk_size.is_none(),
        };
        Ok(Self {
            compression,
            scanner: brisk_codec::scanner(compression, scan),
            compressed: Vec::with_capacity(BLOCK_SIZE),
            pass: StreamPass::start(options.tar, options.max_inodes, options.max_headers)?,
            failed: false,
        })
    }

    /// Takes the next compressed bytes, in pieces of any size, and gives their part of the stream
    /// to `sink`.
    ///
    /// # Errors
    /// When the layer is damaged, refused or beyond a limit, and when the sink fails. Every later
    /// call then answers [`IndexerError::AlreadyFailed`].
    pub fn push(
        &mut self,
        compressed: &[u8],
        sink: &mut dyn StreamSink,
    ) -> Result<(), IndexerError> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(IndexerError::AlreadyFailed);
        }
        self.hash_compressed(compressed);
        let pass = &mut self.pass;
        self.scanner.push(compressed, &mut |stream| {
            let written = sink.write(stream).map_err(IndexerError::Sink);
            written
                .and_then(|()| pass.push(stream))
                .map_err(|error| CodecError::Sink(Box::new(error)))
        })?;
        self.failed = false;
        Ok(())
    }

    fn hash_compressed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (BLOCK_SIZE - self.compressed.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.compressed.extend_from_slice(now);
            bytes = later;
            if self.compressed.len() == BLOCK_SIZE {
                let next = Vec::with_capacity(BLOCK_SIZE);
                give(
                    &self.pass.hashers,
                    std::mem::replace(&mut self.compressed, next),
                );
            }
        }
    }

    /// Ends the layer and writes its index.
    ///
    /// # Errors
    /// When the layer is cut off, or the index would break a limit of its format.
    pub fn finish(self) -> Result<BuiltIndex, IndexerError> {
        if self.failed {
            return Err(IndexerError::AlreadyFailed);
        }
        give(&self.pass.hashers, self.compressed);
        let scan = self.scanner.finish()?;
        let passed = self.pass.finish()?;
        let Scan {
            chunks,
            compressed_size,
            stream_size,
            stream_only,
        } = scan;
        // The tree goes when it has been laid out, before the index is put together.
        let tree = lay_out_tree(passed.tree)?;
        let chunks: Vec<NewChunk> = chunks.into_iter().map(new_chunk).collect();
        let nothing = Tree::new();
        let parts = LayerParts {
            layer_digest: passed.digests.layer,
            diff_id: passed.digests.stream,
            compression: self.compression,
            features: features(stream_only),
            compressed_size,
            stream_size,
            tree: &nothing,
            chunks: &chunks,
            leaves: &passed.digests.leaves,
            headers: passed.headers.as_deref().unwrap_or_default(),
        };
        let bytes = write_laid_out(tree, &parts)?;
        Ok(BuiltIndex {
            bytes,
            layer_digest: passed.digests.layer,
            diff_id: passed.digests.stream,
            compressed_size,
            stream_size,
            stream_only,
            warnings: passed.warnings,
        })
    }
}

fn give(hashers: &Hashers, bytes: Vec<u8>) {
    let block: Block = Arc::new(bytes);
    hashers.compressed(block);
}

fn features(stream_only: Option<StreamOnly>) -> Features {
    let optional = match stream_only {
        None => 0,
        Some(StreamOnly::LongChunk { .. }) => Features::STREAM_ONLY_LONG_CHUNK,
        Some(StreamOnly::LargeWindow { .. }) => Features::STREAM_ONLY_LARGE_WINDOW,
        Some(StreamOnly::UnknownBlocks { .. }) => Features::STREAM_ONLY_UNKNOWN_BLOCKS,
    };
    Features {
        optional,
        ..Features::default()
    }
}

fn new_chunk(chunk: ScannedChunk) -> NewChunk {
    NewChunk {
        stream_start: chunk.stream_start,
        compressed_start: chunk.compressed_start,
        compressed_end: Some(chunk.compressed_end),
        bit: chunk.bit,
        flags: chunk.flags,
        checkpoint: chunk.checkpoint,
    }
}
