//! From parts to the bytes of an index. The same parts always give the same bytes.

mod assemble;
mod layout;
mod source;

pub(crate) use crate::write::assemble::{HeaderFields, Sections, assemble};
pub(crate) use crate::write::layout::lay_out;
pub(crate) use crate::write::source::Source;

use crate::chunk::NewChunk;
use crate::digest::Digest;
use crate::error::FormatError;
use crate::header::{Compression, Features, IndexKind};
use crate::index::Index;
use crate::record::ChunkRecord;
use crate::section::SectionId;
use crate::tree::Tree;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// Everything that a layer's index is made of.
#[derive(Clone, Copy, Debug)]
pub struct LayerParts<'a> {
    /// The digest of the blob.
    pub layer_digest: Digest,
    /// The digest of the layer's tar.
    pub diff_id: Digest,
    /// How the blob is compressed.
    pub compression: Compression,
    /// Feature bits; only known required ones.
    pub features: Features,
    /// Bytes of the blob.
    pub compressed_size: u64,
    /// Bytes of the stream.
    pub stream_size: u64,
    /// The files.
    pub tree: &'a Tree,
    /// The chunks in the stream's order; none for an empty stream.
    pub chunks: &'a [NewChunk],
    /// One digest for every [`crate::LEAF_SIZE`] bytes of the stream, the rest included.
    pub leaves: &'a [Digest],
    /// Every byte of the tar that is no file's content, compressed by the builder; may be empty.
    pub headers: &'a [u8],
}

/// Parts that do not make an index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// More of something than the format's named limit.
    #[error("{value} {what} are more than an index can hold ({limit})")]
    Limit {
        /// What is too many or too large.
        what: &'static str,
        /// How many, or how large.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// The parts contradict each other or the format's rules.
    #[error("the parts do not make a valid index: {0}")]
    Inconsistent(#[from] FormatError),
}

/// The sections that describe a tree, for [`write_laid_out`].
#[derive(Clone, Debug)]
pub struct LaidOut(Sections);

/// Lays a tree out and drops it: of a million files it is larger than the whole index.
///
/// # Errors
/// More of something than an index can hold.
pub fn lay_out_tree(tree: Tree) -> Result<LaidOut, WriteError> {
    lay_out(tree).map(LaidOut)
}

/// The complete index of a layer, ready for a file.
///
/// # Errors
/// Parts that exceed a limit, or that a reader's validation would refuse: that validation runs
/// on the result, so whatever is returned is valid.
pub fn write(parts: &LayerParts<'_>) -> Result<Vec<u8>, WriteError> {
    write_laid_out(lay_out_tree(parts.tree.clone())?, parts)
}

/// As [`write`], with a tree that was laid out before; the tree of `parts` is not looked at.
///
/// # Errors
/// As [`write`].
pub fn write_laid_out(tree: LaidOut, parts: &LayerParts<'_>) -> Result<Vec<u8>, WriteError> {
    let LaidOut(mut sections) = tree;
    let (chunks, checkpoints) = chunk_sections(parts);
    sections.set(SectionId::Chunks, chunks);
    sections.set(SectionId::Checkpoints, checkpoints);
    sections.set(
        SectionId::Leaves,
        parts
            .leaves
            .iter()
            .flat_map(|leaf| *leaf.as_bytes())
            .collect(),
    );
    sections.set(SectionId::Headers, parts.headers.to_vec());
    let bytes = assemble(
        &HeaderFields {
            kind: IndexKind::Layer,
            compression: parts.compression,
            features: parts.features,
            layer_digest: parts.layer_digest,
            diff_id: parts.diff_id,
            compressed_size: parts.compressed_size,
            stream_size: parts.stream_size,
        },
        sections,
    );
    verified(bytes)
}

/// The bytes, once a reader has found nothing wrong with their structure.
pub(crate) fn verified(bytes: Vec<u8>) -> Result<Vec<u8>, WriteError> {
    let bytes = std::sync::Arc::new(bytes);
    Index::open(SharedBytes(bytes.clone()))?.check_structure()?;
    // The index above is gone, so this is the only reference and nothing is copied.
    Ok(std::sync::Arc::unwrap_or_clone(bytes))
}

/// Lets an index look at bytes that are handed on afterwards.
struct SharedBytes(std::sync::Arc<Vec<u8>>);

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The chunk table with its sentinel, and the checkpoints.
fn chunk_sections(parts: &LayerParts<'_>) -> (Vec<u8>, Vec<u8>) {
    let mut records = Vec::with_capacity(parts.chunks.len() + 1);
    let mut checkpoints = Vec::new();
    let mut following = parts.chunks.iter().skip(1);
    for chunk in parts.chunks {
        let shared_end = following.next().map_or(parts.compressed_size, |next| {
            next.compressed_start
                .0
                .saturating_add(u64::from(next.bit > 0))
        });
        records.push(ChunkRecord {
            stream_start: U64::new(chunk.stream_start.0),
            compressed_start: U64::new(chunk.compressed_start.0),
            compressed_end: U64::new(chunk.compressed_end.map_or(shared_end, |end| end.0)),
            checkpoint_start: U64::new(checkpoints.len() as u64),
            flags: U32::new(chunk.flags.0),
            bit: chunk.bit,
            reserved: [0; 3],
        });
        checkpoints.extend_from_slice(&chunk.checkpoint);
    }
    records.push(ChunkRecord {
        stream_start: U64::new(parts.stream_size),
        compressed_start: U64::new(parts.compressed_size),
        compressed_end: U64::new(parts.compressed_size),
        checkpoint_start: U64::new(checkpoints.len() as u64),
        flags: U32::new(0),
        bit: 0,
        reserved: [0; 3],
    });
    (records.as_bytes().to_vec(), checkpoints)
}
