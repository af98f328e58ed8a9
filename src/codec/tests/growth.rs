//! Chunks grow where checkpoints are costly.

use super::content::{Kind, make};
use super::*;
use crate::writers::{run, zstd, zstd_by_go};

const SIZE: u64 = 500_000;

fn scan_growing(compression: Compression, layer: &[u8]) -> (Scan, Vec<u8>) {
    let options = ScanOptions {
        grows: true,
        ..options(SIZE)
    };
    let mut scanner = scanner(compression, options);
    let mut stream = Vec::new();
    let pushed = scanner.push(layer, &mut |bytes| {
        stream.extend_from_slice(bytes);
        Ok(())
    });
    pushed.unwrap();
    (scanner.finish().unwrap(), stream)
}

fn checkpoint_bytes(scan: &Scan) -> u64 {
    let records = scan.chunks.iter().map(|chunk| chunk.checkpoint.len());
    records.sum::<usize>() as u64
}

#[test]
fn chunks_grow_until_checkpoints_keep_to_their_share() {
    let content = make(Kind::Tar, 21, 24 << 20);
    let layers = [
        (
            Compression::Zstd,
            run("zstd", &["-6", "--long=23"], &content),
        ),
        (Compression::Zstd, zstd(&content, 3, true, true)),
        (Compression::Zstd, zstd_by_go(&content)),
    ];
    for (compression, layer) in layers {
        let (fixed, _) = scan(compression, &layer, SIZE).unwrap();
        let (grown, stream) = scan_growing(compression, &layer);
        assert!(stream == content);
        check(compression, &layer, &grown, &stream);
        let share = layer.len() as u64 / CHECKPOINT_SHARE;
        assert!(checkpoint_bytes(&fixed) > 2 * share);
        assert!(grown.chunks.len() < fixed.chunks.len());
        // What a record will take is known when it is made: the last ones may be too large.
        let largest = grown.chunks.iter().map(|chunk| chunk.checkpoint.len());
        let largest = largest.max().unwrap() as u64;
        let took = checkpoint_bytes(&grown);
        assert!(took <= share + 2 * largest, "{took} of {share}, {largest}");
    }
}

#[test]
fn cheap_checkpoints_leave_chunks_as_they_are() {
    let content = make(Kind::Noise, 22, 6 << 20);
    let layer = zstd(&content, 3, true, true);
    let (fixed, _) = scan(Compression::Zstd, &layer, SIZE).unwrap();
    let (grown, _) = scan_growing(Compression::Zstd, &layer);
    assert_eq!(fixed, grown);
}

#[test]
fn growth_ends_before_a_chunk_is_too_long_to_read() {
    // Hardly anything is new, so no share of this layer pays for a checkpoint.
    let part = make(Kind::Noise, 23, 300_000);
    let content = part.repeat((MAX_CHUNK_LENGTH as usize * 2).div_ceil(part.len()));
    for (compression, layer) in [
        (Compression::Zstd, zstd(&content, 1, true, true)),
        (Compression::Gzip, crate::writers::flate2(&content, 6)),
    ] {
        let (grown, stream) = scan_growing(compression, &layer);
        assert!(stream == content);
        assert_eq!(grown.stream_only, None, "{compression}");
        assert!(grown.chunks.len() > 2, "{compression}");
    }
}

#[test]
fn streams_by_go() {
    for (kind, seed) in [(Kind::Tar, 24), (Kind::Mixed, 25), (Kind::Text, 26)] {
        let content = make(kind, seed, 4 << 20);
        let layer = zstd_by_go(&content);
        let scan = check_layer(Compression::Zstd, &layer, &content, 300_000, &[70_000, 1]);
        assert!(scan.chunks.len() > 5, "{kind:?}");
    }
}
