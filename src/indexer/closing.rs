//! Closing the loop: an index that was made elsewhere is compared with the layer's own bytes.
//!
//! Once the whole stream has passed, everything an index says about it can be checked: the diff
//! ID, each leaf, and each file's place and attributes. That its chunks can be decoded on their
//! own is shown by decoding all of them from their checkpoints ([`check_chunks`]).

mod compare;

use std::fmt;
use std::io::Read;
use std::ops::Range;

use index_format::{
    ChunkFlags, Digest, Features, FormatError, Index, LayerParts, NewChunk, SectionId,
    StreamOffset, write,
};

use crate::builder::MAX_INODES;
use crate::closing::compare::compare_trees;
use crate::error::IndexerError;
use crate::hashing::BLOCK_SIZE;
use crate::pass::{Passed, StreamPass};
use crate::tar::TarLimits;
use brisk_codec::{ChunkSource, History, decode_chunk};

/// Differences that are kept; one is enough to poison an index, a few help to see why.
pub const MAX_DIFFERENCES: usize = 50;

/// Something that an index says and its layer does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The stream has another digest.
    DiffId {
        /// What the index says.
        expected: Digest,
        /// What the stream has.
        found: Digest,
    },
    /// The stream has another length.
    StreamSize {
        /// What the index says, in bytes.
        expected: u64,
        /// What the stream has, in bytes.
        found: u64,
    },
    /// A leaf has another digest.
    Leaf(u64),
    /// The index has a path that the layer does not have.
    Invented(Vec<u8>),
    /// The index lacks a path of the layer.
    Missing(Vec<u8>),
    /// The path is in both, with another attribute, place or content.
    Changed {
        /// The path.
        path: Vec<u8>,
        /// What differs.
        what: &'static str,
    },
    /// A chunk cannot be decoded from its checkpoint.
    Chunk {
        /// Its number.
        number: u32,
        /// What the decoder says.
        reason: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy;
        match self {
            Difference::DiffId { expected, found } => {
                write!(
                    f,
                    "the stream has digest {found}, the index says {expected}"
                )
            }
            Difference::StreamSize { expected, found } => {
                write!(f, "the stream has {found} bytes, the index says {expected}")
            }
            Difference::Leaf(leaf) => write!(f, "leaf {leaf} has another digest"),
            Difference::Invented(path) => {
                write!(f, "{:?} is in the index and not in the layer", text(path))
            }
            Difference::Missing(path) => {
                write!(f, "{:?} is in the layer and not in the index", text(path))
            }
            Difference::Changed { path, what } => write!(f, "{:?}: {what} differs", text(path)),
            Difference::Chunk { number, reason } => {
                write!(f, "chunk {number} cannot be decoded on its own: {reason}")
            }
        }
    }
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// The first [`MAX_DIFFERENCES`].
    pub differences: Vec<Difference>,
    /// How many more.
    pub more: u64,
}

impl Closed {
    /// Whether the index tells the truth about its layer.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.differences.is_empty()
    }

    fn add(&mut self, difference: Difference) {
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(difference);
        } else {
            self.more += 1;
        }
    }
}

/// A comparison in progress: the layer's stream is pushed in.
pub struct Closing {
    index: Index,
    pass: StreamPass,
}

impl Closing {
    /// Starts comparing `index`, which must have been validated.
    ///
    /// # Errors
    /// [`IndexerError::TocLayout`], [`IndexerError::Start`].
    pub fn start(index: &Index, limits: TarLimits) -> Result<Self, IndexerError> {
        if index.features().is_toc_layout() {
            return Err(IndexerError::TocLayout);
        }
        Ok(Self {
            index: index.clone(),
            pass: StreamPass::start(limits, MAX_INODES, 0)?,
        })
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// When the stream is no acceptable tar. The comparison is of no use afterwards.
    pub fn push(&mut self, stream: &[u8]) -> Result<(), IndexerError> {
        self.pass.push(stream)
    }

    /// Says that the stream has ended. The diff ID is compared with the index's; that it is the
    /// config's as well is the caller's to see.
    ///
    /// # Errors
    /// When the tar is cut off, or a record of the index is damaged. [`FormatError::SectionAbsent`] when
    /// the digests of contents were made elsewhere in another way and have not been fetched.
    pub fn finish(self) -> Result<Closed, IndexerError> {
        let passed = self.pass.finish()?;
        let mut closed = Closed::default();
        compare_stream(&self.index, &passed, &mut closed)?;
        if closed.is_closed() {
            let own = Index::open(own_index(&self.index, &passed)?)?;
            if !same_sections(&self.index, &own) {
                require_content_digests(&self.index)?;
                compare_trees(&self.index, &own, &mut closed)?;
            }
        }
        Ok(closed)
    }
}

/// Compares `index` with the layer's stream, read from its start.
///
/// # Errors
/// As [`Closing`], and [`IndexerError::Read`].
pub fn verify_tree(index: &Index, mut stream: impl Read) -> Result<Closed, IndexerError> {
    let mut closing = Closing::start(index, TarLimits::default())?;
    let mut buffer = vec![0; BLOCK_SIZE];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return closing.finish(),
            Ok(length) => closing.push(&buffer[..length])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(IndexerError::Read(error)),
        }
    }
}

/// Compares `index`, opened with its checkpoints, with its layer by decoding every chunk on its
/// own: what is then equal is what a lazy reader would have read. `read` gives a range of the
/// compressed layer.
///
/// # Errors
/// As [`Closing`], and [`IndexerError::Read`]. That a chunk cannot be decoded is a difference, and
/// ends the comparison.
pub fn check_chunks(
    index: &Index,
    mut read: impl FnMut(Range<u64>) -> std::io::Result<Vec<u8>>,
) -> Result<Closed, IndexerError> {
    let mut closing = Closing::start(index, TarLimits::default())?;
    for number in 0..index.chunk_count() {
        let chunk = index.chunk(number)?;
        let compressed = read(chunk.compressed.clone()).map_err(IndexerError::Read)?;
        let source = ChunkSource {
            compressed: &compressed,
            bit: chunk.bit,
            // Validation has found chunks in ascending order.
            stream_length: chunk.stream.end.saturating_sub(chunk.stream.start),
        };
        let history = if chunk.flags.contains(ChunkFlags::FREE) {
            History::Free
        } else {
            History::Checkpoint(index.checkpoint(&chunk)?)
        };
        match decode_chunk(index.compression(), &source, history) {
            Ok(stream) => closing.push(&stream)?,
            Err(error) => {
                let mut closed = Closed::default();
                closed.add(Difference::Chunk {
                    number,
                    reason: error.to_string(),
                });
                return Ok(closed);
            }
        }
    }
    closing.finish()
}

fn compare_stream(index: &Index, passed: &Passed, closed: &mut Closed) -> Result<(), IndexerError> {
    let (expected, found) = (index.stream_size(), passed.stream_size);
    if expected != found {
        closed.add(Difference::StreamSize { expected, found });
    }
    let (expected, found) = (index.diff_id(), passed.digests.stream);
    if expected != found {
        closed.add(Difference::DiffId { expected, found });
    }
    let leaves = index.section_length(SectionId::Leaves) / size_of::<Digest>() as u64;
    for (leaf, digest) in (0..leaves).zip(&passed.digests.leaves) {
        if index.leaf_digest(leaf)? != *digest {
            closed.add(Difference::Leaf(leaf));
        }
    }
    Ok(())
}

/// The layer's tree as an index of our own. Its one chunk is a placeholder: only the tree's
/// sections are looked at.
fn own_index(index: &Index, passed: &Passed) -> Result<Vec<u8>, IndexerError> {
    let chunk = NewChunk {
        stream_start: StreamOffset(0),
        compressed_start: index_format::CompressedOffset(0),
        compressed_end: None,
        bit: 0,
        flags: ChunkFlags::FREE,
        checkpoint: Vec::new(),
    };
    let chunks = if passed.stream_size == 0 {
        &[][..]
    } else {
        &[chunk][..]
    };
    Ok(write(&LayerParts {
        layer_digest: index.layer_digest(),
        diff_id: passed.digests.stream,
        compression: index.compression(),
        features: Features::default(),
        compressed_size: index.compressed_size(),
        stream_size: passed.stream_size,
        tree: &passed.tree,
        chunks,
        leaves: &passed.digests.leaves,
        headers: &[],
    })?)
}

/// Digests of contents that are not here cannot be compared, and must not pass for compared.
fn require_content_digests(index: &Index) -> Result<(), FormatError> {
    let section = SectionId::ContentDigests;
    if index.has_section(section) {
        Ok(())
    } else {
        Err(FormatError::SectionAbsent { section })
    }
}

/// Whether the trees are equal byte for byte, as they are when this version built both.
fn same_sections(index: &Index, own: &Index) -> bool {
    let sections = [
        SectionId::Inodes,
        SectionId::Entries,
        SectionId::Names,
        SectionId::XattrSets,
        SectionId::Xattrs,
        SectionId::Extents,
        SectionId::ContentDigests,
    ];
    sections.into_iter().all(|section| {
        index.section_length(section) == own.section_length(section)
            && index.section_digest(section) == own.section_digest(section)
    })
}
