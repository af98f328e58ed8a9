use super::content::{KINDS, Kind, make};
use super::*;
use crate::writers::{run, zstd, zstd_frames, zstd_small_blocks};
use proptest::prelude::*;

const ZSTD: Compression = Compression::Zstd;

fn error_of(layer: &[u8]) -> CodecError {
    let whole = scan(ZSTD, layer, 1000).unwrap_err();
    let in_pieces = scan_in_pieces(ZSTD, layer, 1000, &[1]).unwrap_err();
    assert_eq!(whole.to_string(), in_pieces.to_string());
    whole
}

#[test]
fn the_program() {
    let content = make(Kind::Tar, 11, 6 << 20);
    let arguments: [&[&str]; 7] = [
        &["-1"],
        &["-3"],
        &["-19"],
        &["-3", "-T2", "-B1MiB"],
        &["-3", "--no-check", "--long=24"],
        &["--fast=3"],
        &["-5", "--zstd=wlog=10"],
    ];
    for arguments in arguments {
        let layer = run("zstd", arguments, &content);
        let scan = check_layer(ZSTD, &layer, &content, 400_000, &[65_536, 1]);
        assert!(scan.chunks.len() > 10, "zstd {arguments:?}");
    }
}

#[test]
fn histories_are_sparse_and_tables_are_kept_only_when_repeated() {
    let content = make(Kind::Tar, 12, 12 << 20);
    let layer = zstd(&content, 3, true, true);
    let scan = check_layer(ZSTD, &layer, &content, 2 << 20, &[usize::MAX]);
    assert!(scan.chunks.len() >= 5);
    let records: usize = scan.chunks.iter().map(|chunk| chunk.checkpoint.len()).sum();
    assert!(
        records < layer.len() / 3,
        "{records} bytes for {}",
        layer.len()
    );
    let noise = make(Kind::Noise, 12, 2 << 20);
    let scan = check_layer(
        ZSTD,
        &zstd(&noise, 3, true, true),
        &noise,
        300_000,
        &[usize::MAX],
    );
    assert!(scan.chunks.len() > 5);
    assert!(scan.chunks.iter().all(|chunk| chunk.checkpoint.len() < 32));
}

/// Small blocks of changing content make the compressor repeat tables: without them in the
/// record, these chunks cannot be decoded.
#[test]
fn repeated_tables_are_in_the_record() {
    let content = make(Kind::Text, 13, 400_000);
    let layer = zstd_small_blocks(&content, 9, 17, 4000, 13);
    let scan = check_layer(ZSTD, &layer, &content, 10_000, &[usize::MAX]);
    let with_tables = scan.chunks.iter().filter(|chunk| !chunk.is_free());
    let with_tables = with_tables
        .filter(|chunk| chunk.checkpoint[1] & 0x1e != 0)
        .count();
    assert!(with_tables > 10, "{with_tables} of {}", scan.chunks.len());
}

#[test]
fn a_frame_start_is_preferred_where_nothing_lies_between() {
    let content = make(Kind::Text, 14, 300_000);
    let mut layer = Vec::new();
    let mut ends = Vec::new();
    for piece in content.chunks(100_000) {
        layer.extend(zstd(piece, 3, true, true));
        ends.push(layer.len() as u64);
        layer.extend([0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    }
    let scan = check_layer(ZSTD, &layer, &content, 100_000, &[3]);
    assert!(scan.chunks.iter().all(|chunk| chunk.is_free()));
    // The skippable frames between and after need not be fetched.
    let found: Vec<u64> = scan
        .chunks
        .iter()
        .map(|chunk| chunk.compressed_end.0)
        .collect();
    assert_eq!(found, ends);
}

#[test]
fn an_empty_stream_and_skippable_frames_only() {
    check_layer(ZSTD, &zstd(&[], 3, true, true), &[], 100, &[1]);
    let skippable = [0x5a, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7];
    assert!(error_of(&skippable).is_truncated());
    let layer = [&skippable[..], &zstd(b"content", 3, false, false)].concat();
    check_layer(ZSTD, &layer, b"content", 100, &[1]);
}

#[test]
fn what_follows_the_last_frame_is_told() {
    let frame = zstd(b"content", 3, true, true);
    for garbage in [&b"x"[..], &[0; 9], b"\x28\xb5\x2ex", b"garbage"] {
        let layer = [&frame, garbage].concat();
        match error_of(&layer) {
            CodecError::TrailingGarbage { offset, .. } => assert_eq!(offset.0, frame.len() as u64),
            error => panic!("{error}"),
        }
    }
    assert!(matches!(error_of(b"garbage"), CodecError::Corrupt { .. }));
}

#[test]
fn truncation_is_told_at_every_byte() {
    let mut layer = zstd(&make(Kind::Text, 6, 3000), 3, true, true);
    let first = layer.len();
    layer.extend(zstd(b"more", 3, true, true));
    for end in (0..layer.len()).filter(|end| *end != first) {
        assert!(error_of(&layer[..end]).is_truncated(), "cut to {end} bytes");
    }
    assert!(scan(ZSTD, &layer[..first], 1000).is_ok());
}

#[test]
fn the_frame_checksum_is_verified() {
    let mut layer = zstd(&make(Kind::Text, 6, 3000), 3, true, true);
    *layer.last_mut().unwrap() ^= 1;
    assert!(matches!(
        error_of(&layer),
        CodecError::Checksum {
            what: "frame checksum",
            ..
        }
    ));
}

#[test]
fn a_frame_with_a_dictionary_is_refused() {
    let layer = [0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x00, 0x07, 1, 0, 0];
    assert!(matches!(
        error_of(&layer),
        CodecError::DictionaryNeeded { id: 7, .. }
    ));
}

#[test]
fn windows_have_limits() {
    // 128 MiB and a bit: refused. Nobody's memory is at a layer's disposal.
    let layer = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3 | 1, 1, 0, 0];
    assert!(matches!(
        error_of(&layer),
        CodecError::WindowTooLarge { .. }
    ));
    // A large window of which little can be reached is no obstacle.
    let content = make(Kind::Text, 15, 3 << 20);
    let layer = run("zstd", &["-3", "--long=27", "--no-check"], &content);
    let scan = check_layer(ZSTD, &layer, &content, 1 << 20, &[usize::MAX]);
    assert!(scan.chunks.len() > 2);
}

#[test]
fn a_layer_with_a_reach_above_the_limit_is_only_streamed() {
    let content = make(Kind::Noise, 16, 40 << 20);
    let layer = run("zstd", &["-1", "--long=27"], &content);
    let (scan, stream) = scan(ZSTD, &layer, 9 << 20).unwrap();
    assert!(stream == content);
    assert!(matches!(
        scan.stream_only,
        Some(StreamOnly::LargeWindow { .. })
    ));
    assert!(scan.chunks.len() == 1 && scan.chunks[0].is_free());
    assert_eq!(scan.chunks[0].compressed_end.0, layer.len() as u64);
}

#[test]
fn the_stream_limit_holds() {
    let layer = zstd(&make(Kind::Zeros, 0, 5 << 20), 3, true, true);
    let options = ScanOptions {
        chunk_size: 1 << 20,
        max_stream_size: 1 << 20,
        grows: false,
    };
    let mut scanner = scanner(ZSTD, options);
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
fn the_window_alone_is_not_enough() {
    let content = make(Kind::Text, 17, 400_000);
    let layer = zstd(&content, 3, true, true);
    let scan = check_layer(ZSTD, &layer, &content, 100_000, &[usize::MAX]);
    let chunk = source(&scan, 1, &layer);
    let start = scan.chunks[1].stream_start.0 as usize;
    let window = History::Window(&content[..start]);
    let error = decode_chunk(ZSTD, &chunk, window).unwrap_err();
    assert!(matches!(error, CodecError::HistoryMissing { .. }));
    let checkpoint = &scan.chunks[1].checkpoint[..];
    let needed = history_length(ZSTD, checkpoint).unwrap();
    let window = &content[start + 1 - needed as usize..start];
    let error = decode_chunk(ZSTD, &chunk, History::Both { checkpoint, window }).unwrap_err();
    assert!(matches!(error, CodecError::HistoryMissing { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_frame(
        kind in 0usize..6, seed: u64, level in -3i32..8, length in 0usize..900_000,
        checksum: bool, size: bool, chunk_size in 1u64..400_000,
        sizes in proptest::collection::vec(1usize..200_000, 1..5),
    ) {
        let content = make(KINDS[kind], seed, length);
        let layer = zstd(&content, level, checksum, size);
        check_layer(ZSTD, &layer, &content, chunk_size, &sizes);
    }

    #[test]
    fn any_small_blocks(
        kind in 0usize..6, seed: u64, level in 1i32..13, length in 0usize..150_000,
        window_log in 10u32..20, longest in 50usize..5000,
        chunk_size in prop_oneof![1u64..5000, 5000u64..100_000],
        sizes in proptest::collection::vec(1usize..5000, 1..5),
    ) {
        let content = make(KINDS[kind], seed, length);
        let longest = longest.max(length / 100);
        let layer = zstd_small_blocks(&content, level, window_log, longest, seed);
        check_layer(ZSTD, &layer, &content, chunk_size, &sizes);
    }

    #[test]
    fn any_frames(
        kind in 0usize..6, seed: u64, length in 0usize..300_000, longest in 1usize..100_000,
        chunk_size in prop_oneof![1u64..5000, 5000u64..100_000],
        sizes in proptest::collection::vec(1usize..5000, 1..5),
    ) {
        let content = make(KINDS[kind], seed, length);
        let layer = zstd_frames(&content, longest.max(length / 50), seed);
        check_layer(ZSTD, &layer, &content, chunk_size, &sizes);
    }
}

/// Three sequences of four literals and a match of five bytes, 5 to 12 back, with tables of
/// one symbol each: brought along, or repeated from the block before.
fn one_symbol_block(repeated: bool) -> Vec<u8> {
    let mut body = vec![12 << 3];
    body.extend(b"literal text");
    body.push(3);
    match repeated {
        false => body.extend([0b0101_0100, 4, 3, 2]),
        true => body.push(0b1111_1100),
    }
    // Three bits of offset for each sequence below the end mark.
    body.extend([0b1010_0110, 0b0000_0011]);
    body
}

fn frame_of(blocks: &[(u32, &[u8])]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0];
    for (number, (kind, body)) in blocks.iter().enumerate() {
        let last = u32::from(number + 1 == blocks.len());
        let header = (body.len() as u32) << 3 | kind << 1 | last;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(*body);
    }
    frame
}

/// No dictionary can hold a table of one symbol. A chunk starts after such a table only where
/// the next block brings its own; klauspost's encoder repeats them.
#[test]
fn tables_of_one_symbol_move_the_start() {
    const RAW: u32 = 0;
    const COMPRESSED: u32 = 2;
    let (own, repeated) = (one_symbol_block(false), one_symbol_block(true));
    let layer = frame_of(&[
        (RAW, b"something to begin with"),
        (COMPRESSED, &own),
        (COMPRESSED, &repeated),
        (COMPRESSED, &own),
        (RAW, b"plain"),
        (COMPRESSED, &repeated),
        (COMPRESSED, &own),
    ]);
    let (_, content) = scan(ZSTD, &layer, 1000).unwrap();
    let scan = check_layer(ZSTD, &layer, &content, 1, &[5]);
    let starts: Vec<u64> = scan
        .chunks
        .iter()
        .map(|chunk| chunk.stream_start.0)
        .collect();
    // 23 bytes, then 27 for each compressed block: blocks 0, 1, 3 and 6.
    assert_eq!(starts, [0, 23, 77, 136]);
}

/// A chunk that repeats predefined tables finds them in its dictionary, although the stream
/// never described them. libzstd does not write such blocks, other encoders do.
#[test]
fn predefined_tables_can_be_repeated() {
    // One sequence in states zero: no literals, the second offset, three bytes.
    let block = |modes| [&[4 << 3][..], b"text", &[1, modes, 0, 0, 0b10]].concat();
    let (predefined, repeated) = (block(0), block(0b1111_1100));
    let layer = frame_of(&[
        (0, b"something"),
        (2, &predefined),
        (2, &repeated),
        (2, &repeated),
    ]);
    let (_, content) = scan(ZSTD, &layer, 1000).unwrap();
    assert_eq!(
        content,
        ["something", "hintext", "ttttext", "textext"]
            .concat()
            .as_bytes()
    );
    let scan = check_layer(ZSTD, &layer, &content, 1, &[5]);
    assert_eq!(scan.chunks.len(), 4);
}
