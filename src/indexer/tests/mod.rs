//! Whole layers: what goes in comes out, in every compression.

mod build;
mod closing;
mod failure;
mod model;
mod tree;

use std::io::Write as _;

use index_format::{Compression, Digest, FileKind, Index, InodeNumber, SectionId};

use crate::closing::{check_chunks, verify_tree};
use crate::headers::rebuild;
use crate::{BuiltIndex, IndexOptions, IndexerError, LayerIndexer, WriteSink};

/// Compresses a stream, gzip and zstd with more than one block where it is long enough.
fn compress(stream: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => stream.to_vec(),
        Compression::Gzip => {
            let level = flate2::Compression::new(6);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(stream).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(stream, 3).unwrap(),
    }
}

/// Small chunks, so that small layers have several.
fn options() -> IndexOptions {
    IndexOptions {
        chunk_size: Some(32 << 10),
        ..IndexOptions::default()
    }
}

/// Indexes compressed bytes that come in pieces of `piece` bytes; also returns the stream that
/// the sink was given.
fn index_pieces(
    compressed: &[u8],
    compression: Compression,
    piece: usize,
    options: IndexOptions,
) -> Result<(BuiltIndex, Vec<u8>), IndexerError> {
    let mut indexer = LayerIndexer::new(compression, options)?;
    let mut sink = WriteSink(Vec::new());
    for piece in compressed.chunks(piece) {
        indexer.push(piece, &mut sink)?;
    }
    Ok((indexer.finish()?, sink.0))
}

/// Indexes a stream as a plain layer and checks everything that must hold for any layer.
fn indexed(parts: &[&[u8]]) -> (Index, BuiltIndex) {
    indexed_as(&parts.concat(), Compression::None)
}

fn indexed_as(stream: &[u8], compression: Compression) -> (Index, BuiltIndex) {
    let compressed = compress(stream, compression);
    let (built, sunk) = index_pieces(&compressed, compression, 10_007, options()).unwrap();
    assert!(sunk == stream, "the sink is given the stream");
    assert_eq!(built.layer_digest, Digest::of(&compressed));
    assert_eq!(built.diff_id, Digest::of(stream));
    assert_eq!(built.stream_size, stream.len() as u64);
    assert_eq!(built.compressed_size, compressed.len() as u64);
    let index = Index::open(built.bytes.clone()).unwrap();
    index.validate().unwrap();
    assert_eq!(index.layer_digest(), built.layer_digest);
    for (number, leaf) in (0..).zip(stream.chunks(65_536)) {
        assert_eq!(index.leaf_digest(number).unwrap(), Digest::of(leaf));
    }
    check_contents(&index, stream);
    check_rebuild(&index, stream);
    assert_eq!(verify_tree(&index, stream).unwrap().differences, []);
    let read = |range: std::ops::Range<u64>| {
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        Ok(compressed[range].to_vec())
    };
    assert_eq!(check_chunks(&index, read).unwrap().differences, []);
    (index, built)
}

/// Every digest of a content is right, and every whole file has one.
fn check_contents(index: &Index, stream: &[u8]) {
    for number in 1..=index.inode_count() {
        let inode = index.inode(InodeNumber(number)).unwrap();
        if inode.kind == FileKind::Regular {
            let content = content(index, inode.number, stream);
            match index.content_digest(inode.number) {
                Some(digest) => assert_eq!(digest, Digest::of(&content), "inode {number}"),
                None => assert!(inode.sparse, "inode {number} has no digest"),
            }
        }
    }
}

/// The stream comes out of its headers section and the payload it does not hold.
fn check_rebuild(index: &Index, stream: &[u8]) {
    let mut out = Vec::new();
    let read_payload = |offset: u64, buffer: &mut [u8]| {
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&stream[start..start + buffer.len()]);
        Ok(())
    };
    let section = index.section(SectionId::Headers).unwrap();
    rebuild(section, index.stream_size(), read_payload, &mut out).unwrap();
    assert!(out == stream, "the stream is rebuilt");
}

fn content(index: &Index, inode: InodeNumber, stream: &[u8]) -> Vec<u8> {
    let size = usize::try_from(index.inode(inode).unwrap().size).unwrap();
    let mut content = vec![0; size];
    for extent in index.extents(inode).unwrap() {
        let (from, to) = (extent.stream_offset.0, extent.file_offset.0);
        let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
        let length = usize::try_from(extent.length).unwrap();
        content[to..to + length].copy_from_slice(&stream[from..from + length]);
    }
    content
}

/// The inode at a path.
fn at(index: &Index, path: &str) -> InodeNumber {
    index
        .resolve(path.as_bytes())
        .unwrap()
        .unwrap_or_else(|| panic!("{path} is missing"))
}

fn kind(index: &Index, path: &str) -> FileKind {
    index.inode(at(index, path)).unwrap().kind
}

/// Whether nothing of the layer is at the path.
fn absent(index: &Index, path: &str) -> bool {
    index.resolve(path.as_bytes()).unwrap().is_none()
}
