//! The streaming itself: compressions, pieces, sizes, limits of memory.

use index_format::{Compression, Index, SectionId};

use crate::tar::fixture::{end, pax, ustar};
use crate::tests::{at, compress, content, index_pieces, indexed, indexed_as, options};
use crate::{BuiltIndex, IndexOptions, Warning};

/// Bytes that do not compress to nothing.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Seven bits of eight, and runs, so that there are matches.
        if state & 0x300 == 0 {
            b'a'
        } else {
            (state >> 24) as u8 & 0x7f
        }
    };
    (0..length).map(|_| next()).collect()
}

/// A layer whose files end on, before and behind the borders of blocks and leaves.
fn layer() -> Vec<u8> {
    let sizes = [
        0,
        1,
        511,
        512,
        65_024,
        65_536,
        262_144 - 512,
        262_144,
        262_145,
        700_001,
        3,
    ];
    let mut archive = Vec::new();
    for (size, number) in sizes.into_iter().zip(0..) {
        let name = format!("dir/file-{number}");
        archive.extend(ustar(name.as_bytes(), b'0').with(&noise(size, number)));
    }
    archive.extend(end());
    archive
}

const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

#[test]
fn every_compression_gives_the_same_tree() {
    let stream = layer();
    for compression in ALL {
        let (index, built) = indexed_as(&stream, compression);
        assert!(built.stream_only.is_none());
        assert!(
            index.chunk_count() > 2,
            "{compression}: {} chunks",
            index.chunk_count()
        );
        assert_eq!(
            content(&index, at(&index, "dir/file-9"), &stream),
            noise(700_001, 9)
        );
        assert_eq!(content(&index, at(&index, "dir/file-0"), &stream), b"");
    }
}

#[test]
fn pieces_do_not_matter() {
    let stream = layer();
    for compression in ALL {
        let compressed = compress(&stream, compression);
        let build = |piece| {
            index_pieces(&compressed, compression, piece, options())
                .unwrap()
                .0
        };
        let whole: BuiltIndex = build(compressed.len());
        for piece in [1, 4096, 262_143] {
            assert!(
                build(piece).bytes == whole.bytes,
                "{compression} in pieces of {piece}"
            );
        }
    }
}

#[test]
fn empty_layers() {
    for stream in [vec![], end(), vec![0; 10_240]] {
        for compression in ALL {
            let (index, _) = indexed_as(&stream, compression);
            assert_eq!(index.inode_count(), 1);
        }
    }
}

#[test]
fn bytes_behind_the_end_mark_belong_to_the_diff_id() {
    let (index, built) = indexed(&[&ustar(b"a", b'0').with(b"x"), &end(), &noise(70_000, 1)]);
    assert_eq!(index.inode_count(), 2);
    assert_eq!(built.stream_size, 1024 + 1024 + 70_000);
}

#[test]
fn gzip_members_and_zstd_frames_in_a_row() {
    let stream = layer();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let parts: Vec<Vec<u8>> = stream
            .chunks(300_000)
            .map(|part| compress(part, compression))
            .collect();
        let (built, sunk) = index_pieces(&parts.concat(), compression, 999, options()).unwrap();
        assert!(sunk == stream);
        Index::open(built.bytes).unwrap().validate().unwrap();
    }
}

#[test]
fn headers_can_be_left_out() {
    let stream = layer();
    let build = |max_headers| {
        let options = IndexOptions {
            max_headers,
            ..options()
        };
        let (built, _) = index_pieces(&stream, Compression::None, 1 << 20, options).unwrap();
        let index = Index::open(built.bytes).unwrap();
        index.validate().unwrap();
        (index.section_length(SectionId::Headers), built.warnings)
    };
    let (length, warnings) = build(1 << 20);
    assert!(length > 0 && warnings.first.is_empty());
    let (length, warnings) = build(10);
    assert_eq!((length, warnings.first), (0, vec![Warning::HeadersLeftOut]));
    let (length, warnings) = build(0);
    assert_eq!((length, warnings.first), (0, vec![]));
}

#[test]
fn warnings_are_kept_up_to_a_number() {
    let odd = ustar(b"odd", b'V').done().repeat(150);
    let (_, built) = indexed(&[&odd]);
    assert_eq!((built.warnings.first.len(), built.warnings.more), (100, 50));
}

#[test]
fn a_sparse_file_of_exabytes_costs_nothing() {
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.map", b"9223372036854775000,1"),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.size", b"9223372036854775807"),
    ];
    let archive = [pax(b'x', records), ustar(b"s", b'0').with(b"x")].concat();
    let (built, _) = index_pieces(&archive, Compression::None, 512, options()).unwrap();
    let index = Index::open(built.bytes).unwrap();
    index.validate().unwrap();
    assert_eq!(index.inode(at(&index, "s")).unwrap().size, i64::MAX as u64);
    assert_eq!(index.content_digest(at(&index, "s")), None);
}
