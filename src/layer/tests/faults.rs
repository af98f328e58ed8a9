//! Bytes that arrive wrong, late or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use index_format::Compression;

use super::{World, fixture, gzip, policy, stream};
use crate::{OnOutage, Policy, ReadError};
use brisk_blob::faulty::Fault;
use brisk_cache::Budget;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_fetched_anew_once() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        for part in [0, 60, 128, 255] {
            let world = World::new(fixture(compression, stream(2_000_000, 9)));
            world.blob.inject([Fault::Flip(part)]);
            let range = world.chunk(1).stream;
            world.check(range).await;
            // A bit that no decoder looks at does no harm.
            assert!(world.requests() <= 2);
            let counted = world.resources.counters().verification_failures();
            assert_eq!(counted > 0, world.requests() == 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_stay_wrong_are_never_served() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let world = World::new(fixture(compression, stream(2_000_000, 9)));
        world.blob.stand(Some(Fault::Flip(128)));
        let mut failed = 0;
        for at in (0..2_000_000).step_by(50_000) {
            match world.layer.read(at, 50_000).await {
                Ok(bytes) => {
                    let at = at as usize;
                    assert!(
                        bytes == world.fixture.stream[at..at + 50_000],
                        "{compression} {at}"
                    );
                }
                Err(ReadError::Corrupt { .. }) => failed += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(failed > 0);
        assert_eq!(world.resources.counters().failed_reads(), failed);
        // It was the way here and not the blob: everything can be read afterwards.
        world.blob.stand(None);
        world.check(0..world.size()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_part_of_a_divided_leaf_does_not_stay() {
    let world = World::with(gzip(2_000_000), policy(), Budget::Bytes(0));
    let (left, right) = (world.chunk(1), world.chunk(2));
    let edge = right.stream.start;
    let leaf = edge / index_format::LEAF_SIZE;
    // A part that pretends to come from the left chunk, decoded earlier.
    let start = leaf * index_format::LEAF_SIZE;
    let whole = start..start + index_format::LEAF_SIZE;
    let wrong = (
        start..edge,
        bytes::Bytes::from(vec![0x5a; (edge - start) as usize]),
    );
    assert!(
        world
            .layer
            .scratch()
            .offer((world.layer.id(), leaf), whole.clone(), wrong)
            .is_none()
    );
    world.check(whole).await;
    assert!(world.requests() >= 2);
    assert!(
        world
            .blob
            .reads()
            .iter()
            .any(|read| read.start <= left.compressed.start)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_waited_out() {
    let world = World::new(gzip(1_500_000));
    world
        .blob
        .inject([Fault::Error, Fault::Short, Fault::Error]);
    world.check(0..1000).await;
    assert_eq!(world.requests(), 4);
    assert_eq!(world.resources.counters().failed_requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_server_holds_a_read_until_it_recovers() {
    let world = Arc::new(World::new(gzip(1_500_000)));
    world.check(0..10).await;
    world.blob.stand(Some(Fault::Hang));
    let last = world.size() - 5..world.size();
    let reader = tokio::spawn({
        let (world, last) = (world.clone(), last.clone());
        async move { world.check(last).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!reader.is_finished());
    assert_eq!(world.resources.counters().demand_reads_waiting(), 1);
    // What is local does not need the network.
    let mut buffer = [0; 10];
    assert!(world.layer.try_read(0, &mut buffer).unwrap());
    world.blob.stand(None);
    reader.await.unwrap();
    assert_eq!(world.resources.counters().demand_reads_waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_hangs_is_repeated() {
    let policy = Policy {
        attempt_limit: Duration::from_millis(50),
        ..policy()
    };
    let world = World::with(gzip(1_500_000), policy, Budget::Bytes(1 << 30));
    // A limit of less than the time for a slow link's bytes would be no limit at all.
    let chunk = world.chunk(0);
    let slow = (chunk.compressed.end - chunk.compressed.start) / (16 << 10);
    world.blob.stand(Some(Fault::Hang));
    let start = Instant::now();
    let read = tokio::spawn({
        let (layer, blob) = (world.layer.clone(), world.blob.clone());
        async move {
            while blob.reads().len() < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            blob.stand(None);
            drop(layer);
        }
    });
    world.check(0..1000).await;
    read.await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(slow));
    assert!(world.requests() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outage_policy_decides_how_long_a_read_waits() {
    let cases = [
        (OnOutage::Eio, Duration::ZERO..Duration::from_millis(90)),
        (
            OnOutage::Wait(Duration::from_millis(600)),
            Duration::from_millis(100)..Duration::from_millis(2000),
        ),
    ];
    for (on_outage, expected) in cases {
        let policy = Policy {
            on_outage,
            ..policy()
        };
        let world = World::with(gzip(1_500_000), policy, Budget::Bytes(1 << 30));
        world.blob.stand(Some(Fault::Error));
        let start = Instant::now();
        let failed = world.layer.read(0, 1000).await.unwrap_err();
        assert!(failed.is_unavailable() && !failed.is_corrupt());
        assert!(
            expected.contains(&start.elapsed()),
            "{on_outage:?}: {:?}",
            start.elapsed()
        );
        world.blob.stand(None);
        world.check(0..1000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_pass_is_not_waited_for() {
    let world = World::new(gzip(1_500_000));
    world.blob.inject([Fault::Permanent]);
    let start = Instant::now();
    assert!(world.layer.read(0, 1000).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(world.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_fetches_for_readers_that_have_gone() {
    let world = World::new(gzip(1_500_000));
    world.blob.stand(Some(Fault::Error));
    let read = tokio::time::timeout(Duration::from_millis(300), world.layer.read(0, 1000));
    assert!(read.await.is_err());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let requests = world.requests();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(world.requests(), requests);
    assert_eq!(world.resources.counters().demand_reads_waiting(), 0);
    world.blob.stand(None);
    world.check(0..1000).await;
}
