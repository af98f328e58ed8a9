//! A chunk gives the same bytes cold and with any of its neighbours in the cache, whoever wrote
//! the layer.
//!
//! Runs the programs gzip, pigz, zstd and skopeo.

use std::sync::Arc;

use index_format::Compression;

use super::{Dice, World, fixture_of, policy, stream};
use brisk_cache::Budget;
use brisk_codec::writers::{gzip_by_go, run, zstd_by_go};

/// The same content by every writer.
fn layers(content: &[u8]) -> Vec<(&'static str, Compression, Vec<u8>)> {
    let gzip = |level| run("gzip", &[level, "-n"], content);
    let zstd = |arguments: &[&str]| run("zstd", arguments, content);
    let in_parts = |program: &str, arguments: &[&str]| {
        let parts = content.chunks(content.len() / 3 + 1000);
        parts
            .flat_map(|part| run(program, arguments, part))
            .collect::<Vec<u8>>()
    };
    vec![
        ("gzip -1", Compression::Gzip, gzip("-1")),
        ("gzip -6", Compression::Gzip, gzip("-6")),
        ("gzip -9", Compression::Gzip, gzip("-9")),
        ("pigz", Compression::Gzip, run("pigz", &["-n"], content)),
        ("members", Compression::Gzip, in_parts("gzip", &["-6"])),
        ("zstd -1", Compression::Zstd, zstd(&["-1"])),
        ("zstd -3", Compression::Zstd, zstd(&["-3"])),
        ("zstd -19", Compression::Zstd, zstd(&["-19"])),
        (
            "zstd -T2",
            Compression::Zstd,
            zstd(&["-3", "-T2", "-B512KiB"]),
        ),
        ("frames", Compression::Zstd, in_parts("zstd", &["-3"])),
        ("gzip by Go", Compression::Gzip, gzip_by_go(content)),
        ("zstd by Go", Compression::Zstd, zstd_by_go(content)),
        ("plain", Compression::None, content.to_vec()),
    ]
}

fn world(compression: Compression, content: &[u8], blob: &[u8], chunk_size: u64) -> World {
    let fixture = fixture_of(compression, content.to_vec(), blob.to_vec(), chunk_size);
    World::with(fixture, policy(), Budget::Bytes(1 << 30))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_the_same_with_every_subset_of_its_neighbours() {
    let content = stream(600_000, 12);
    for (name, compression, blob) in layers(&content) {
        let first = world(compression, &content, &blob, 128_000);
        let count = first.fixture.index.chunk_count();
        assert!((4..7).contains(&count), "{name}: {count} chunks");
        for subset in 0..1_u32 << count {
            for chunk in (0..count).filter(|chunk| subset >> chunk & 1 == 0) {
                let world = first.emptied();
                for cached in (0..count).filter(|cached| subset >> cached & 1 == 1) {
                    world.check(world.chunk(cached).stream).await;
                }
                world.check(world.chunk(chunk).stream).await;
                let failures = world.resources.counters().verification_failures();
                assert_eq!(failures, 0, "{name}, {subset:b}, {chunk}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_is_the_same_with_random_subsets_of_many_neighbours() {
    let content = stream(4_000_000, 13);
    let mut dice = Dice(14);
    for (name, compression, blob) in layers(&content) {
        let first = Arc::new(world(compression, &content, &blob, 128_000));
        let count = u64::from(first.fixture.index.chunk_count());
        assert!(count > 20, "{name}");
        for _ in 0..6 {
            let world = first.emptied();
            for _ in 0..dice.below(count) {
                let cached = dice.below(count) as u32;
                world.check(world.chunk(cached).stream).await;
            }
            for _ in 0..5 {
                let chunk = dice.below(count) as u32;
                world.check(world.chunk(chunk).stream).await;
            }
            let failures = world.resources.counters().verification_failures();
            assert_eq!(failures, 0, "{name}");
        }
    }
}
