//! Every chunk of every kind of layer decodes to its part of the stream, from its checkpoint
//! and from the stream before it; damaged bytes give an error or bytes of the right length.
//!
//! Some tests run the programs gzip, pigz, skopeo and zstd.

mod content;
mod damage;
mod growth;
mod gzip;
mod plain;
mod zstd;

use super::*;
use index_format::Compression;

pub(super) fn options(chunk_size: u64) -> ScanOptions {
    ScanOptions {
        chunk_size,
        max_stream_size: 1 << 40,
        grows: false,
    }
}

/// Scans `compressed`, pushed in pieces of the given sizes (over and over).
pub(super) fn scan_in_pieces(
    compression: Compression,
    compressed: &[u8],
    chunk_size: u64,
    sizes: &[usize],
) -> Result<(Scan, Vec<u8>), CodecError> {
    let mut scanner = scanner(compression, options(chunk_size));
    let mut stream = Vec::new();
    let mut rest = compressed;
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(size.clamp(1, rest.len()));
        rest = after;
        scanner.push(piece, &mut |bytes| {
            assert!(!bytes.is_empty(), "the sink is not bothered for nothing");
            stream.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    Ok((scanner.finish()?, stream))
}

/// Scans `compressed`, pushed whole.
pub(super) fn scan(
    compression: Compression,
    compressed: &[u8],
    chunk_size: u64,
) -> Result<(Scan, Vec<u8>), CodecError> {
    scan_in_pieces(compression, compressed, chunk_size, &[usize::MAX])
}

/// The chunk's end in the stream.
pub(super) fn stream_end(scan: &Scan, number: usize) -> u64 {
    scan.chunks
        .get(number + 1)
        .map_or(scan.stream_size, |next| next.stream_start.0)
}

pub(super) fn source<'a>(scan: &Scan, number: usize, compressed: &'a [u8]) -> ChunkSource<'a> {
    let chunk = &scan.chunks[number];
    let range = chunk.compressed_start.0 as usize..chunk.compressed_end.0 as usize;
    ChunkSource {
        compressed: &compressed[range],
        bit: chunk.bit,
        stream_length: stream_end(scan, number) - chunk.stream_start.0,
    }
}

/// The history that the chunk's own record gives.
pub(super) fn own_history(chunk: &ScannedChunk) -> History<'_> {
    if chunk.is_free() {
        History::Free
    } else {
        History::Checkpoint(&chunk.checkpoint)
    }
}

/// Asserts what every scan promises, then decodes every chunk in every way.
pub(super) fn check(compression: Compression, compressed: &[u8], scan: &Scan, stream: &[u8]) {
    assert_eq!(scan.compressed_size, compressed.len() as u64);
    assert_eq!(scan.stream_size, stream.len() as u64);
    assert_eq!(scan.stream_only, None);
    assert_eq!(scan.chunks.is_empty(), stream.is_empty());
    for (number, chunk) in scan.chunks.iter().enumerate() {
        let start = chunk.stream_start.0 as usize;
        let end = stream_end(scan, number) as usize;
        assert!(start < end, "chunk {number} is empty");
        assert!(number > 0 || (start == 0 && chunk.is_free()));
        assert_eq!(chunk.is_free(), chunk.checkpoint.is_empty());
        let expected = &stream[start..end];
        let source = source(scan, number, compressed);
        let decoded = decode_chunk(compression, &source, own_history(chunk)).unwrap();
        assert!(
            decoded == expected,
            "chunk {number} from its checkpoint differs"
        );
        if chunk.is_free() {
            continue;
        }
        let needed = history_length(compression, &chunk.checkpoint).unwrap() as usize;
        let checkpoint = &chunk.checkpoint[..];
        for length in [needed, start] {
            let window = &stream[start - length..start];
            let both = History::Both { checkpoint, window };
            let decoded = decode_chunk(compression, &source, both).unwrap();
            assert!(
                decoded == expected,
                "chunk {number} with {length} bytes before it differs"
            );
        }
        if compression == Compression::Gzip {
            let window = &stream[start.saturating_sub(32 * 1024)..start];
            let decoded = decode_chunk(compression, &source, History::Window(window)).unwrap();
            assert!(
                decoded == expected,
                "chunk {number} from the window differs"
            );
        }
    }
}

/// Scans in pieces, compares with what was compressed, checks every chunk.
pub(super) fn check_layer(
    compression: Compression,
    compressed: &[u8],
    content: &[u8],
    chunk_size: u64,
    sizes: &[usize],
) -> Scan {
    let (scan, stream) = scan_in_pieces(compression, compressed, chunk_size, sizes).unwrap();
    assert!(
        stream == content,
        "the stream differs from what was compressed"
    );
    check(compression, compressed, &scan, &stream);
    scan
}
