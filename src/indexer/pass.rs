//! One pass over a layer's stream: the tar is read, the tree grows, digests are made.

use std::sync::Arc;

use index_format::{Digest, NodeId, Tree};

use crate::apply::apply;
use crate::error::IndexerError;
use crate::hashing::{BLOCK_SIZE, Cut, Digests, Hashers};
use crate::headers::HeadersWriter;
use crate::tar::{Entry, EntryKind, TarLimits, TarReader, Visitor, Warning};
use crate::warnings::Warnings;

/// A pass in progress.
pub struct StreamPass {
    /// The digests' threads; the compressed side gives its blocks here too.
    pub hashers: Hashers,
    block: Vec<u8>,
    stream_size: u64,
    reader: TarReader,
    collector: Collector,
}

/// What a pass has found.
pub struct Passed {
    /// The files, with the digests of their contents.
    pub tree: Tree,
    /// The digests, except for those of contents.
    pub digests: Digests,
    /// The headers section; `None` when it was not wanted or got too large.
    pub headers: Option<Vec<u8>>,
    /// Bytes of the stream.
    pub stream_size: u64,
    /// Oddities.
    pub warnings: Warnings,
}

impl StreamPass {
    /// Starts a pass. `max_inodes` bounds the tree, replaced nodes included. `max_headers` is the largest headers section to keep, in bytes; 0 keeps
    /// none.
    ///
    /// # Errors
    /// [`IndexerError::Start`].
    pub fn start(
        limits: TarLimits,
        max_inodes: u32,
        max_headers: usize,
    ) -> Result<Self, IndexerError> {
        let headers = (max_headers > 0)
            .then(|| HeadersWriter::new(max_headers))
            .transpose();
        Ok(Self {
            hashers: Hashers::start().map_err(IndexerError::Start)?,
            block: Vec::with_capacity(BLOCK_SIZE),
            stream_size: 0,
            reader: TarReader::new(limits),
            collector: Collector {
                tree: Tree::new(),
                max_inodes,
                headers: headers.map_err(IndexerError::Start)?,
                warnings: Warnings::default(),
                position: 0,
                cuts: Vec::new(),
                file_left: 0,
                file_hashed: false,
                hashed_files: Vec::new(),
            },
        })
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// When the stream is no acceptable tar. The pass is of no use afterwards.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), IndexerError> {
        while !bytes.is_empty() {
            let room = (BLOCK_SIZE - self.block.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK_SIZE {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IndexerError> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_SIZE));
        self.stream_size += block.len() as u64;
        self.collector.position = 0;
        self.reader.push(&block, &mut self.collector)?;
        let cuts = std::mem::take(&mut self.collector.cuts);
        self.hashers.stream(Arc::new(block), cuts);
        Ok(())
    }

    /// Ends the pass with the stream.
    ///
    /// # Errors
    /// When the tar is cut off.
    pub fn finish(mut self) -> Result<Passed, IndexerError> {
        self.flush()?;
        let mut collector = self.collector;
        self.reader.finish(&mut collector)?;
        let mut digests = self.hashers.finish();
        for (node, digest) in collector.hashed_files.iter().zip(&digests.contents) {
            collector.tree.set_content_digest(*node, *digest);
        }
        // They are in the tree now, and 32 MB for a million files.
        digests.contents = Vec::new();
        let wanted = collector.headers.is_some();
        let headers = collector.headers.map(HeadersWriter::finish).transpose();
        let headers = headers.map_err(IndexerError::Start)?.flatten();
        if wanted && headers.is_none() {
            collector.warnings.push(Warning::HeadersLeftOut);
        }
        let (tree, warnings) = (collector.tree, collector.warnings);
        Ok(Passed {
            tree,
            digests,
            headers,
            stream_size: self.stream_size,
            warnings,
        })
    }
}

/// Takes what the tar reader finds.
struct Collector {
    tree: Tree,
    max_inodes: u32,
    headers: Option<HeadersWriter>,
    warnings: Warnings,
    /// Bytes of the current block that have been read.
    position: usize,
    cuts: Vec<Cut>,
    /// Payload of the current file that is still to come.
    file_left: u64,
    file_hashed: bool,
    /// The files whose content is digested, in the order of the stream.
    hashed_files: Vec<NodeId>,
}

impl Visitor for Collector {
    type Error = IndexerError;

    fn framing(&mut self, bytes: &[u8]) -> Result<(), IndexerError> {
        self.position += bytes.len();
        match &mut self.headers {
            Some(headers) => headers.framing(bytes).map_err(IndexerError::Start),
            None => Ok(()),
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<(), IndexerError> {
        let (mut length, mut whole) = (0, false);
        if let EntryKind::Regular {
            extents, sparse, ..
        } = &entry.kind
        {
            length = extents.iter().map(|extent| extent.length).sum();
            whole = !sparse;
        }
        let node = apply(&mut self.tree, entry, &mut self.warnings)?;
        if self.tree.node_count() > self.max_inodes {
            return Err(IndexerError::TooManyInodes {
                limit: self.max_inodes,
            });
        }
        // A sparse file has no digest: its zeros would have to be hashed as well, and a few
        // bytes of tar can declare exabytes of them.
        let node = node.filter(|_| whole);
        self.file_left = length;
        self.file_hashed = node.is_some() && length > 0;
        match node {
            Some(node) if length > 0 => self.hashed_files.push(node),
            Some(node) => self.tree.set_content_digest(node, Digest::of(b"")),
            None => {}
        }
        Ok(())
    }

    fn payload(&mut self, bytes: &[u8]) -> Result<(), IndexerError> {
        let (start, end) = (self.position, self.position + bytes.len());
        self.position = end;
        self.file_left -= bytes.len() as u64;
        if self.file_hashed {
            self.cuts.push(Cut {
                start,
                end,
                last: self.file_left == 0,
            });
        }
        if let Some(headers) = &mut self.headers {
            headers.payload(bytes.len() as u64);
        }
        Ok(())
    }

    fn warning(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }
}
