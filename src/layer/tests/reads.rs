//! Reads equal the source, and fetch no more than they must.

use std::sync::Arc;
use std::time::Duration;

use index_format::{Compression, LEAF_SIZE};
use tokio::runtime::Handle;

use super::{Dice, World, fixture, gzip, nobody, policy, stream};
use crate::memory::Memory;
use crate::{Cause, Policy, Purpose, ReadError, Resources};
use brisk_blob::faulty::Fault;
use brisk_cache::Budget;

#[tokio::test(flavor = "multi_thread")]
async fn cold_random_reads_equal_the_source() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        for seed in 1..4 {
            let world = World::new(fixture(
                compression,
                stream(3_000_000 + seed as usize, seed),
            ));
            let mut dice = Dice(seed);
            for _ in 0..60 {
                world.check(dice.range(world.size(), 300_000)).await;
            }
            world.check(0..world.size()).await;
            assert!(world.layer.file().is_complete());
            let fetched = world.resources.counters().fetched_bytes(Cause::Demand);
            let blob = world.fixture.blob.len() as u64;
            assert!(fetched < blob * 5 / 4, "{compression}: {fetched} of {blob}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_at_once_over_a_cache_that_is_too_small() {
    let budget = Budget::Bytes(10 * LEAF_SIZE);
    let policy = Policy {
        read_ahead_bytes: 400_000,
        ..policy()
    };
    let world = std::sync::Arc::new(World::with(gzip(3_000_000), policy, budget));
    world
        .blob
        // Wrong once only: bytes that are wrong again when fetched anew are an error.
        .inject([Fault::Error, Fault::Flip(100), Fault::Short]);
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..8 {
        let world = world.clone();
        readers.spawn(async move {
            let mut dice = Dice(reader * 77 + 5);
            for _ in 0..40 {
                let range = dice.range(world.size(), 150_000);
                let mut buffer = vec![0; (range.end - range.start) as usize];
                if world.layer.try_read(range.start, &mut buffer).unwrap() {
                    let right = &world.fixture.stream[range.start as usize..range.end as usize];
                    assert!(buffer == right, "{range:?}");
                } else {
                    world.check(range).await;
                }
            }
        });
    }
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    assert!(world.cache.usage().used_bytes <= 10 * LEAF_SIZE);
    assert_eq!(world.resources.counters().demand_reads_waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_chunk_is_fetched_once_for_fifty_readers() {
    let world = std::sync::Arc::new(World::new(gzip(3_000_000)));
    world
        .blob
        .stand(Some(Fault::Delay(Duration::from_millis(100))));
    let chunk = world.chunk(2);
    let leaf = chunk.stream.start.div_ceil(LEAF_SIZE);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let world = world.clone();
        readers.spawn(async move { world.check(leaf * LEAF_SIZE..(leaf + 1) * LEAF_SIZE).await });
    }
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    assert_eq!(world.blob.reads(), [chunk.compressed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_wanted_together_are_one_request() {
    let world = World::new(gzip(3_000_000));
    let (first, last) = (world.chunk(1), world.chunk(4));
    world.check(first.stream.start..last.stream.end).await;
    let reads = world.blob.reads();
    assert_eq!(reads.len(), 1, "{reads:?}");
    assert!(reads[0].start <= first.compressed.start && last.compressed.end <= reads[0].end);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_divided_leaf_needs_both_chunks_and_each_only_once() {
    let world = World::new(gzip(3_000_000));
    let (left, right) = (world.chunk(1), world.chunk(2));
    let edge = right.stream.start;
    assert!(
        !edge.is_multiple_of(LEAF_SIZE),
        "the fixture has no divided leaf"
    );
    // The chunk alone: its last leaf cannot be verified yet.
    let inside = left.stream.start.next_multiple_of(LEAF_SIZE);
    world.check(inside..inside + 1).await;
    assert_eq!(world.blob.reads(), [left.compressed]);
    assert!(!world.layer.file().has(edge - 1..edge));
    // The neighbour brings the rest; what was decoded before is not fetched again.
    world.check(edge - 1..edge + 1).await;
    assert_eq!(world.blob.reads().len(), 2);
    assert_eq!(world.blob.reads()[1], right.compressed);
    assert!(world.layer.file().has(edge - 1..edge + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sequential_readers_are_read_ahead_of() {
    let policy = Policy {
        read_ahead_bytes: 1 << 20,
        ..policy()
    };
    let world = World::with(gzip(3_000_000), policy, Budget::Bytes(1 << 30));
    let step = 32 << 10;
    for at in (0..600_000).step_by(step as usize) {
        world.check(at..at + step).await;
    }
    // What was asked for ahead arrives without another read.
    let wait = async {
        while !world.layer.file().has(0..1_000_000) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap();
    let counters = world.resources.counters();
    assert!(counters.requests(Cause::Speculation) >= 3);
    assert!(counters.requests(Cause::Demand) <= 3);
    assert!(counters.fetched_bytes(Cause::Speculation) < world.fixture.blob.len() as u64 * 3 / 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_outside_the_stream_are_refused() {
    let world = World::new(gzip(1_500_000));
    let size = world.size();
    for (offset, length) in [(size, 1), (size - 1, 2), (u64::MAX, 1), (0, u64::MAX)] {
        let refused = world.layer.read(offset, length).await;
        assert!(matches!(refused, Err(ReadError::OutOfRange { .. })));
        assert!(!world.layer.is_local(offset, length));
    }
    assert!(world.layer.read(size, 0).await.unwrap().is_empty());
    assert_eq!(world.requests(), 0);
}

// On one thread, so that what is sent first is asked for first.
#[tokio::test]
async fn what_is_prefetched_comes_in_order_and_readers_join_it() {
    let world = World::new(gzip(4_000_000));
    let account = nobody();
    let far = world.chunk(10);
    let inside = far.stream.start.next_multiple_of(LEAF_SIZE);
    let ranges = [inside..inside + 10, 0..10, inside..inside + 20];
    let purpose = Purpose::new(Cause::StartUp, &account);
    world.layer.prefetch(&purpose, ranges).await;
    world.check(inside..inside + 10).await;
    world.check(0..10).await;
    let reads = world.blob.reads();
    assert_eq!(reads[0].start, far.compressed.start);
    let both: u64 = [far.compressed, world.chunk(0).compressed]
        .iter()
        .map(|range| range.end - range.start)
        .sum();
    assert_eq!(account.counters().fetched_bytes(Cause::StartUp), both);
    let counters = world.resources.counters();
    assert_eq!(counters.fetched_bytes(Cause::StartUp), both);
    assert_eq!(counters.requests(Cause::Demand), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_many_chunks_take_turns_for_memory() {
    let mut world = World::new(gzip(6_000_000));
    // Room for two chunks of 200 kB, compressed and decoded.
    let memory = Memory::new(700_000, 700_000);
    world.resources = Resources::with_memory(Handle::current(), memory);
    world.layer = world.reopened();
    world.blob.stand(Some(Fault::Hang));
    let world = Arc::new(world);
    let readers: Vec<_> = (0..20)
        .map(|reader| {
            let world = world.clone();
            // Across a boundary, so that each reader needs two chunks.
            let at = world.chunk(reader + 1).stream.start - 1000;
            tokio::spawn(async move { world.check(at..at + 2000).await })
        })
        .collect();
    while world.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(world.requests() <= 2, "{:?}", world.blob.reads());
    world.blob.stand(None);
    for reader in readers {
        reader.await.unwrap();
    }
}
