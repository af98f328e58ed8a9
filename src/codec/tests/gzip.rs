use std::io::Write;

use super::content::{KINDS, Kind, make};
use super::*;
use crate::writers::{flate2, members, run, small_blocks};
use proptest::prelude::*;

const GZIP: Compression = Compression::Gzip;

fn error_of(layer: &[u8]) -> CodecError {
    let whole = scan(GZIP, layer, 1000).unwrap_err();
    let in_pieces = scan_in_pieces(GZIP, layer, 1000, &[1]).unwrap_err();
    assert_eq!(whole.to_string(), in_pieces.to_string());
    whole
}

#[test]
fn programs() {
    let content = make(Kind::Tar, 3, 3 << 20);
    let writers: [(&str, &[&str]); 7] = [
        ("gzip", &["-1"]),
        ("gzip", &["-6"]),
        ("gzip", &["-9"]),
        ("pigz", &["-p2"]),
        ("pigz", &["-p2", "-b", "32"]),
        ("pigz", &["-p2", "-i", "-b", "64"]),
        ("pigz", &["-11", "-b", "1024"]),
    ];
    for (program, arguments) in writers {
        let content = if arguments[0] == "-11" {
            &content[..300_000]
        } else {
            &content[..]
        };
        let layer = run(program, arguments, content);
        let scan = check_layer(GZIP, &layer, content, 100_000, &[65_536, 1]);
        assert!(
            scan.chunks.len() > content.len() / 250_000,
            "{program} {arguments:?}"
        );
    }
}

#[test]
fn windows_are_sparse() {
    let content = make(Kind::Tar, 5, 4 << 20);
    let layer = flate2(&content, 6);
    let scan = check_layer(GZIP, &layer, &content, 256 << 10, &[usize::MAX]);
    let records: usize = scan.chunks.iter().map(|chunk| chunk.checkpoint.len()).sum();
    assert!(records / scan.chunks.len() < 8 << 10, "{records} bytes");
    let noise = make(Kind::Noise, 5, 1 << 20);
    let scan = check_layer(GZIP, &flate2(&noise, 6), &noise, 100_000, &[usize::MAX]);
    assert!(scan.chunks.len() > 5);
    assert!(scan.chunks.iter().all(|chunk| chunk.checkpoint.len() < 32));
}

#[test]
fn a_chunk_shorter_than_the_window_keeps_only_what_it_refers_to_itself() {
    let content = make(Kind::Text, 8, 200_000);
    let layer = small_blocks(&content, 8);
    let short = check_layer(GZIP, &layer, &content, 1, &[usize::MAX]);
    assert!(short.chunks.len() > 40);
}

#[test]
fn a_member_start_is_preferred_where_nothing_lies_between() {
    let content = make(Kind::Text, 2, 300_000);
    let mut layer = Vec::new();
    for piece in content.chunks(100_000) {
        layer.extend(small_blocks(piece, 1));
    }
    let scan = check_layer(GZIP, &layer, &content, 100_000, &[usize::MAX]);
    assert_eq!(scan.chunks.len(), 3);
    assert!(
        scan.chunks
            .iter()
            .all(|chunk| chunk.is_free() && chunk.bit == 0)
    );
}

#[test]
fn header_fields_padding_and_an_empty_stream() {
    let content = make(Kind::Text, 4, 5000);
    let encode = |content: &[u8]| {
        let builder = flate2::GzBuilder::new()
            .extra(vec![1; 700])
            .filename("a")
            .comment("b");
        let mut encoder = builder.write(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    let mut layer = encode(&content);
    check_layer(GZIP, &layer, &content, 100, &[1]);
    layer.extend(encode(&[]));
    let end = layer.len() as u64;
    layer.extend([0; 1000]);
    let scan = check_layer(GZIP, &layer, &content, 100, &[3]);
    assert!(scan.chunks.last().unwrap().compressed_end.0 < end);
    check_layer(GZIP, &encode(&[]), &[], 100, &[1]);
}

#[test]
fn what_follows_the_last_member_is_told() {
    let layer = flate2(b"content", 6);
    for garbage in [&b"x"[..], b"\x1fx", b"\0\0x", b"\x1f\x8b\x08\xff"] {
        let mut layer = layer.clone();
        let end = layer.len() as u64;
        layer.extend_from_slice(garbage);
        match error_of(&layer) {
            CodecError::TrailingGarbage { offset, .. } => assert!(offset.0 >= end),
            CodecError::Corrupt { .. } => assert_eq!(garbage.len(), 4),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn truncation_is_told_at_every_byte() {
    let mut layer = flate2(&make(Kind::Text, 6, 3000), 6);
    let first = layer.len();
    layer.extend(flate2(b"more", 6));
    for end in (0..layer.len()).filter(|end| *end != first) {
        assert!(error_of(&layer[..end]).is_truncated(), "cut to {end} bytes");
    }
    assert!(scan(GZIP, &layer[..first], 1000).is_ok());
}

#[test]
fn trailers_are_verified() {
    let layer = flate2(&make(Kind::Text, 6, 3000), 6);
    for (from_end, expected) in [(8, "CRC32"), (5, "CRC32"), (4, "length"), (1, "length")] {
        let mut layer = layer.clone();
        let at = layer.len() - from_end;
        layer[at] ^= 0x40;
        assert!(matches!(error_of(&layer), CodecError::Checksum { what, .. } if what == expected));
    }
}

#[test]
fn the_stream_limit_holds() {
    let layer = flate2(&make(Kind::Zeros, 0, 5 << 20), 6);
    let options = ScanOptions {
        chunk_size: 1 << 20,
        max_stream_size: 1 << 20,
        grows: false,
    };
    let mut scanner = scanner(GZIP, options);
    let mut length = 0;
    let error = scanner.push(&layer, &mut |bytes| {
        length += bytes.len();
        Ok(())
    });
    assert!(matches!(
        error,
        Err(CodecError::StreamTooLong { limit: 1_048_576 })
    ));
    assert!(length <= 1 << 20);
}

#[test]
fn a_failing_sink_ends_the_scan() {
    let layer = flate2(b"content", 6);
    let mut scanner = scanner(GZIP, options(100));
    let error = scanner.push(&layer, &mut |_| Err(CodecError::Sink("disk full".into())));
    assert!(matches!(error, Err(CodecError::Sink(_))));
    assert!(matches!(scanner.finish(), Err(CodecError::AlreadyFailed)));
}

/// One fixed-Huffman block of 70 MiB of zeros: nowhere to start inside it.
#[test]
fn a_layer_with_an_endless_block_is_only_streamed() {
    // 00 literal, then matches of length 258 at distance 1.
    let mut bits = Bits::default();
    bits.put(0b1, 1);
    bits.put(0b01, 2);
    bits.put_huffman(0x30, 8);
    let matches = (70 << 20) / 258;
    for _ in 0..matches {
        bits.put_huffman(0b1100_0101, 8);
        bits.put_huffman(0, 5);
    }
    bits.put_huffman(0, 7);
    let length = 1 + matches * 258;
    let mut layer = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    layer.extend(bits.bytes);
    let mut crc = flate2::Crc::new();
    crc.update(&vec![0; length]);
    layer.extend(crc.sum().to_le_bytes());
    layer.extend((length as u32).to_le_bytes());
    let (scan, stream) = scan(GZIP, &layer, 1 << 20).unwrap();
    assert_eq!(stream.len(), length);
    assert_eq!(
        scan.stream_only,
        Some(StreamOnly::LongChunk {
            length: length as u64
        })
    );
    assert_eq!(scan.chunks.len(), 1);
    let error = decode_chunk(GZIP, &source(&scan, 0, &layer), History::Free).unwrap_err();
    assert!(matches!(error, CodecError::ChunkTooLong { .. }));
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, value: u32, count: usize) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// Huffman codes go high bit first.
    fn put_huffman(&mut self, code: u32, count: usize) {
        (0..count)
            .rev()
            .for_each(|bit| self.put(code >> bit & 1, 1));
    }
}

/// Five bytes of input for no output, over and over: the window is then stored whole, and
/// time does not explode.
#[test]
fn empty_blocks_without_end() {
    let content = make(Kind::Text, 9, 40_000);
    let (first, second) = content.split_at(20_000);
    let mut layer = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let stored = |piece: &[u8]| {
        let length = piece.len() as u16;
        [
            &[0],
            &length.to_le_bytes()[..],
            &(!length).to_le_bytes(),
            piece,
        ]
        .concat()
    };
    layer.extend(stored(first));
    (0..300_000).for_each(|_| layer.extend(stored(&[])));
    layer.extend(stored(&second[..10_000]));
    (0..300_000).for_each(|_| layer.extend(stored(&[])));
    layer.extend(stored(&second[10_000..]));
    layer.extend([3, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&content);
    layer.extend(crc.sum().to_le_bytes());
    layer.extend(40_000u32.to_le_bytes());
    let scan = check_layer(GZIP, &layer, &content, 20_000, &[usize::MAX]);
    assert_eq!(scan.chunks.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_member(
        kind in 0usize..6, seed: u64, level in 0u32..10, length in 0usize..600_000,
        chunk_size in prop_oneof![1u64..5000, 5000u64..300_000],
        sizes in proptest::collection::vec(1usize..100_000, 1..5),
    ) {
        let content = make(KINDS[kind], seed, length);
        check_layer(GZIP, &flate2(&content, level), &content, chunk_size, &sizes);
    }

    #[test]
    fn any_small_blocks(
        kind in 0usize..6, seed: u64, length in 0usize..300_000,
        chunk_size in prop_oneof![1u64..5000, 5000u64..100_000],
        sizes in proptest::collection::vec(1usize..5000, 1..5),
    ) {
        let content = make(KINDS[kind], seed, length);
        check_layer(GZIP, &small_blocks(&content, seed), &content, chunk_size, &sizes);
    }

    #[test]
    fn any_members(
        kind in 0usize..6, seed: u64, length in 0usize..300_000, longest in 1usize..100_000,
        chunk_size in prop_oneof![1u64..5000, 5000u64..100_000],
        sizes in proptest::collection::vec(1usize..5000, 1..5),
    ) {
        let content = make(KINDS[kind], seed, length);
        let layer = members(&content, longest.max(length / 50), seed);
        check_layer(GZIP, &layer, &content, chunk_size, &sizes);
    }
}
