//! Bringing the rest of an image.

use std::time::{Duration, Instant};

use index_format::{Compression, LEAF_SIZE};

use super::{World, fixture, gzip, nobody, stream};
use crate::{BackgroundFetch, BackgroundMode, BackgroundOutcome, Cause, Closing};
use brisk_blob::faulty::Fault;

fn start(world: &World, mode: BackgroundMode) -> BackgroundFetch {
    BackgroundFetch::start(vec![world.layer.clone()], mode, &world.resources, &nobody())
}

#[tokio::test(flavor = "multi_thread")]
async fn background_completes_and_closes() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let world = World::new(fixture(compression, stream(4_000_000, 3)));
        // Some of it is there already.
        world.check(1_500_000..1_600_000).await;
        let outcome = start(&world, BackgroundMode::Full).outcome().await;
        assert_eq!(outcome, BackgroundOutcome::Complete, "{compression}");
        assert!(world.layer.file().is_complete());
        assert_eq!(world.layer.closing(), Closing::Closed);
        assert_eq!(*world.closings.lock().unwrap(), [Closing::Closed]);
        let requests = world.requests();
        world.check(0..world.size()).await;
        assert_eq!(world.requests(), requests);
        let fetched: u64 = Cause::ALL
            .iter()
            .map(|cause| world.resources.counters().fetched_bytes(*cause))
            .sum();
        // With gzip neighbours share a byte.
        assert!(
            fetched <= world.fixture.blob.len() as u64 + 100,
            "{compression}: {fetched}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn background_survives_an_outage_and_single_faults() {
    let world = World::new(gzip(4_000_000));
    let layer = world.layer.clone();
    world
        .blob
        .inject([Fault::Flip(77), Fault::Error, Fault::Short, Fault::Error]);
    let layers = vec![layer];
    let fetch = BackgroundFetch::start(layers, BackgroundMode::Full, &world.resources, &nobody());
    let outcome = tokio::time::timeout(Duration::from_secs(30), fetch.outcome())
        .await
        .unwrap();
    assert_eq!(outcome, BackgroundOutcome::Complete);
    assert!(world.resources.counters().failed_requests() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn background_gives_up_on_what_stays_corrupt() {
    let mut damaged = gzip(4_000_000);
    let chunk = damaged.index.chunk(3).unwrap();
    let middle = (chunk.compressed.start + chunk.compressed.end) / 2;
    damaged.blob[middle as usize] ^= 0xff;
    let world = World::new(damaged);
    let outcome = start(&world, BackgroundMode::Full).outcome();
    let outcome = tokio::time::timeout(Duration::from_secs(30), outcome)
        .await
        .unwrap();
    assert_eq!(outcome, BackgroundOutcome::Corrupt);
    assert_eq!(world.layer.closing(), Closing::Unclosed);
    // All but the damaged chunk's leaves and those it shares is there.
    let present = world.layer.file().present_bytes();
    let lost = chunk.stream.end - chunk.stream.start + 2 * LEAF_SIZE;
    assert!(
        present >= world.size() - lost,
        "{present} of {}",
        world.size()
    );
    let first = chunk.stream.start.next_multiple_of(LEAF_SIZE);
    assert!(
        world
            .layer
            .read(first, chunk.stream.end - first)
            .await
            .unwrap_err()
            .is_corrupt()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_and_stopping() {
    let world = World::new(gzip(16_000_000));
    assert_eq!(
        start(&world, BackgroundMode::Off).outcome().await,
        BackgroundOutcome::Stopped
    );
    assert_eq!(world.requests(), 0);
    world
        .blob
        .stand(Some(Fault::Delay(Duration::from_millis(30))));
    let until_ready = start(&world, BackgroundMode::UntilReady);
    until_ready.ready();
    assert_eq!(until_ready.outcome().await, BackgroundOutcome::Stopped);
    drop(start(&world, BackgroundMode::Full));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let requests = world.requests();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.requests(), requests);
    assert!(!world.layer.file().is_complete());
    let full = start(&world, BackgroundMode::Full);
    full.ready();
    assert_eq!(full.outcome().await, BackgroundOutcome::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn background_keeps_still_while_a_reader_waits() {
    let world = std::sync::Arc::new(World::new(gzip(12_000_000)));
    world.blob.stand(Some(Fault::Hang));
    let last = world.size() - 10..world.size();
    let reader = tokio::spawn({
        let (world, last) = (world.clone(), last.clone());
        async move { world.check(last).await }
    });
    while world.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    let fetch = start(&world, BackgroundMode::Full);
    tokio::time::sleep(Duration::from_millis(300)).await;
    if begun.elapsed() < Duration::from_millis(450) {
        assert_eq!(world.requests(), 1, "background did not wait");
    }
    world.blob.stand(None);
    reader.await.unwrap();
    assert_eq!(fetch.outcome().await, BackgroundOutcome::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_does_not_wait_for_its_own_background() {
    // Background's request for the chunk hangs; the reader joins it, and takes over when it fails.
    let world = World::new(gzip(4_000_000));
    world
        .blob
        .inject([Fault::Delay(Duration::from_millis(100))]);
    let fetch = start(&world, BackgroundMode::Full);
    while world.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let read = world.check(0..1000);
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .unwrap();
    assert_eq!(fetch.outcome().await, BackgroundOutcome::Complete);
    let wanted = world.chunk(0).compressed;
    let reads = world.blob.reads();
    assert_eq!(
        reads
            .iter()
            .filter(|read| read.contains(&wanted.start))
            .count(),
        1,
        "{reads:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn background_begins_behind_what_was_read_last() {
    let world = World::new(gzip(12_000_000));
    for chunk in [20, 40] {
        let inside = world.chunk(chunk).stream.start.next_multiple_of(LEAF_SIZE);
        world.check(inside..inside + 10).await;
    }
    let before = world.requests();
    let fetch = start(&world, BackgroundMode::Full);
    assert_eq!(fetch.outcome().await, BackgroundOutcome::Complete);
    let reads = world.blob.reads();
    let first = |chunk: u32| {
        let start = world.chunk(chunk).compressed.start;
        reads[before..]
            .iter()
            .position(|read| read.contains(&start))
    };
    assert!(first(41).is_some() && first(41) < first(21), "{reads:?}");
    assert!(first(21) < first(0), "{reads:?}");
}
