//! Packs: consumed as they arrive, checked leaf by leaf, of no harm when they are wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use index_format::startup::{LeafRun, PackTable, runs};
use index_format::{Digest, LEAF_SIZE};

use super::{Dice, World, gzip};
use crate::pack::{PackFault, PackFetch, PackOutcome, write_pack};
use crate::{Account, Layer, PackDownload, StartupFetch};
use brisk_blob::faulty::{Fault, FaultyBlob};

const LENGTH: usize = 3_000_000;
/// Quick; what is tested is not the compressor.
const LEVEL: i32 = 1;

/// Leaves in an order that no stream has, the short last one among them.
fn order(world: &World) -> Vec<LeafRun> {
    let count = world.layer.leaf_count();
    let mut leaves: Vec<u64> = (0..count).filter(|leaf| leaf % 5 != 3).collect();
    leaves.sort_by_key(|leaf| leaf.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
    runs(leaves.into_iter().map(|leaf| (0, leaf)))
}

async fn pack_of(world: &World, runs: &[LeafRun]) -> (PackTable, Vec<u8>) {
    let layers = [world.layer.clone()];
    let digests = [world.layer.digest()];
    let account = Account::new(&world.resources);
    write_pack(&layers, &account, &digests, runs, LEVEL, |_| {})
        .await
        .unwrap()
}

/// A pack with many frames: as one of several sets, so that gaps can be skipped.
async fn frames_of(world: &World, frames: &[Vec<LeafRun>]) -> (PackTable, Vec<u8>) {
    let (mut listed, mut content) = (Vec::new(), Vec::new());
    for runs in frames {
        let (table, bytes) = pack_of(world, runs).await;
        let frame = &table.frames[0];
        let place = frame.compressed.start as usize..frame.compressed.end as usize;
        listed.push((place.len() as u32, frame.runs.clone()));
        content.extend_from_slice(&bytes[place]);
    }
    let table = PackTable::new(vec![world.layer.digest()], listed);
    let bytes = [table.encode(), content].concat();
    (table, bytes)
}

fn download(blob: &Arc<FaultyBlob>) -> PackDownload {
    PackDownload::start(&tokio::runtime::Handle::current(), blob.clone())
}

async fn consume(world: &World, download: PackDownload) -> PackOutcome {
    let layers = vec![world.layer.clone()];
    PackFetch::start(
        layers,
        download,
        &world.resources,
        &Account::new(&world.resources),
    )
    .outcome()
    .await
}

fn has(layer: &Layer, leaf: u64) -> bool {
    let start = leaf * LEAF_SIZE;
    let end = (start + LEAF_SIZE).min(layer.index().stream_size());
    layer.file().has(start..end)
}

fn leaves(runs: &[LeafRun]) -> Vec<u64> {
    runs.iter().flat_map(|run| run.leaves.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_brings_its_leaves_and_nothing_else_is_fetched() {
    let source = World::new(gzip(LENGTH));
    let wanted = order(&source);
    let (table, bytes) = pack_of(&source, &wanted).await;
    assert_eq!(table.size(), bytes.len() as u64);
    let world = source.emptied();
    let blob = Arc::new(FaultyBlob::new(bytes));
    let outcome = consume(&world, download(&blob)).await;
    assert!(outcome.fault.is_none(), "{outcome:?}");
    assert_eq!(outcome.leaves, table.leaves());
    assert!(outcome.missing.is_empty());
    for leaf in 0..world.layer.leaf_count() {
        assert_eq!(
            has(&world.layer, leaf),
            leaves(&wanted).contains(&leaf),
            "{leaf}"
        );
    }
    assert_eq!((world.requests(), blob.reads().len()), (0, 1));
    for leaf in leaves(&wanted) {
        let start = leaf * LEAF_SIZE;
        world
            .check(start..(start + LEAF_SIZE).min(world.size()))
            .await;
    }
    assert_eq!(world.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_damaged_byte_of_a_pack_is_detected_and_harmless() {
    let source = World::new(gzip(LENGTH));
    let wanted = order(&source);
    let (table, bytes) = pack_of(&source, &wanted).await;
    let start = table.frames[0].compressed.start;
    let mut dice = Dice(7);
    for round in 0..120 {
        let world = source.emptied();
        let mut damaged = bytes.clone();
        // The table is short beside the frames: half of the damage is for it.
        let at = match round % 2 {
            0 => dice.below(start),
            _ => dice.below(bytes.len() as u64),
        } as usize;
        damaged[at] ^= 1 << dice.below(8);
        let outcome = consume(&world, download(&Arc::new(FaultyBlob::new(damaged)))).await;
        // A bit that zstd does not care for yields the right leaves all the same.
        let all = leaves(&wanted).iter().all(|leaf| has(&world.layer, *leaf));
        assert!(outcome.fault.is_some() || all, "byte {at}: {outcome:?}");
        for _ in 0..5 {
            world.check(dice.range(world.size(), 300_000)).await;
        }
        if round % 20 == 0 {
            world.check(0..world.size()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_cut_short_at_any_place_costs_only_its_bytes() {
    let source = World::new(gzip(1_500_000));
    let wanted = order(&source);
    let (_, bytes) = pack_of(&source, &wanted).await;
    let mut dice = Dice(3);
    for _ in 0..40 {
        let world = source.emptied();
        let length = dice.below(bytes.len() as u64) as usize;
        let blob = Arc::new(FaultyBlob::new(bytes[..length].to_vec()));
        let outcome = consume(&world, download(&blob)).await;
        assert!(outcome.fault.is_some(), "{length} bytes");
        world.check(0..world.size()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cached_before_the_pack_brings_the_rest_by_ranges() {
    let source = World::new(gzip(6_000_000));
    let count = source.layer.leaf_count();
    // Frames of eight leaves, in reverse.
    let frames: Vec<Vec<LeafRun>> = (0..count / 8)
        .rev()
        .map(|n| {
            vec![LeafRun {
                layer: 0,
                leaves: n * 8..n * 8 + 8,
            }]
        })
        .collect();
    let (table, bytes) = frames_of(&source, &frames).await;
    let mut dice = Dice(11);
    let mut skipped = 0;
    for round in 0..12 {
        let world = source.emptied();
        let mut cached = Vec::new();
        for n in 0..count / 8 {
            // From nothing to everything.
            if dice.below(11) < round {
                cached.push(n);
                world
                    .check(n * 8 * LEAF_SIZE..(n + 1) * 8 * LEAF_SIZE)
                    .await;
            }
        }
        let blob = Arc::new(FaultyBlob::new(bytes.clone()));
        let length = table.encode().len() as u64;
        let handle = tokio::runtime::Handle::current();
        let outcome = consume(&world, PackDownload::lazily(&handle, blob.clone(), length)).await;
        assert!(outcome.fault.is_none(), "{outcome:?}");
        assert!(
            leaves(&frames.concat())
                .iter()
                .all(|leaf| has(&world.layer, *leaf))
        );
        let asked: u64 = blob
            .reads()
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        skipped += bytes.len() as u64 - asked.min(bytes.len() as u64);
        if cached.len() as u64 == count / 8 {
            assert_eq!(asked, length, "everything is here");
        }
    }
    assert!(
        skipped > bytes.len() as u64 * 2,
        "{skipped} bytes were not asked for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_waits_for_what_is_about_to_arrive() {
    let source = World::new(gzip(LENGTH));
    let (_, bytes) = pack_of(&source, &order(&source)).await;
    let world = source.emptied();
    let blob = Arc::new(FaultyBlob::new(bytes.clone()));
    blob.inject([Fault::Delay(Duration::ZERO)]);
    blob.stand(Some(Fault::Hang));
    let length = 1000;
    // The table comes, the rest only when it is let go.
    let handle = tokio::runtime::Handle::current();
    let table = PackDownload::lazily(&handle, blob.clone(), length);
    let leaf = leaves(&order(&source))[0];
    let layers = vec![world.layer.clone()];
    let fetch = PackFetch::start(
        layers,
        table,
        &world.resources,
        &Account::new(&world.resources),
    );
    until(|| world.layer.expects(leaf)).await;
    let let_go = async {
        until(|| world.resources.counters().demand_reads_waiting() > 0).await;
        blob.stand(None);
    };
    tokio::join!(
        world.check(leaf * LEAF_SIZE..leaf * LEAF_SIZE + 100),
        let_go
    );
    assert_eq!(world.requests(), 0, "it did not fetch");
    assert!(fetch.outcome().await.fault.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_does_not_wait_for_a_pack_that_has_come_to_a_halt() {
    let source = World::new(gzip(LENGTH));
    let (_, bytes) = pack_of(&source, &order(&source)).await;
    let world = source.emptied();
    let blob = Arc::new(FaultyBlob::new(bytes.clone()));
    blob.inject([Fault::Delay(Duration::ZERO)]);
    blob.stand(Some(Fault::Hang));
    let handle = tokio::runtime::Handle::current();
    let table = PackDownload::lazily(&handle, blob.clone(), 1000);
    let leaf = leaves(&order(&source))[0];
    let layers = vec![world.layer.clone()];
    let fetch = PackFetch::start(
        layers,
        table,
        &world.resources,
        &Account::new(&world.resources),
    );
    until(|| world.layer.expects(leaf)).await;
    let started = Instant::now();
    world.check(leaf * LEAF_SIZE..leaf * LEAF_SIZE + 100).await;
    assert!(world.requests() > 0 && started.elapsed() < Duration::from_secs(30));
    drop(fetch);
    until(|| !world.layer.expects(leaf)).await;
    world.check(0..world.size()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_of_another_image_and_leaves_beyond_the_stream_are_passed_over() {
    let source = World::new(gzip(LENGTH));
    let (mut table, bytes) = pack_of(&source, &order(&source)).await;
    let world = source.emptied();
    let rest = bytes[table.encode().len()..].to_vec();
    table.layers = vec![Digest::of(b"another layer")];
    let other = [table.encode(), rest.clone()].concat();
    let outcome = consume(&world, download(&Arc::new(FaultyBlob::new(other)))).await;
    assert!(
        outcome.fault.is_none() && outcome.leaves == 0,
        "{outcome:?}"
    );
    table.layers = vec![world.layer.digest()];
    let count = world.layer.leaf_count();
    for run in &mut table.frames[0].runs {
        run.leaves = run.leaves.start + count..run.leaves.end + count;
    }
    let beyond = [table.encode(), rest].concat();
    let outcome = consume(&world, download(&Arc::new(FaultyBlob::new(beyond)))).await;
    assert_eq!(outcome.leaves, 0, "{outcome:?}");
    world.check(0..world.size()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_blob_or_a_frame_with_more_in_it_is_a_fault() {
    let source = World::new(gzip(LENGTH));
    let (table, bytes) = pack_of(&source, &order(&source)).await;
    let world = source.emptied();
    let longer = [&bytes[..], b"more"].concat();
    let outcome = consume(&world, download(&Arc::new(FaultyBlob::new(longer)))).await;
    assert!(
        matches!(outcome.fault, Some(PackFault::Size { .. })),
        "{outcome:?}"
    );
    // One leaf less in the table than in the frame.
    let mut frames = table.frames[0].runs.clone();
    frames.pop();
    let length = (table.frames[0].compressed.end - table.frames[0].compressed.start) as u32;
    let shorter = PackTable::new(table.layers.clone(), vec![(length, frames)]);
    let content = &bytes[table.frames[0].compressed.start as usize..];
    let bomb = [&shorter.encode()[..], content].concat();
    let outcome = consume(&world, download(&Arc::new(FaultyBlob::new(bomb)))).await;
    assert!(
        matches!(outcome.fault, Some(PackFault::Frame { .. })),
        "{outcome:?}"
    );
    world.check(0..world.size()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_pack_the_start_up_set_is_fetched_in_few_requests() {
    let world = World::new(gzip(LENGTH));
    let runs = vec![
        LeafRun {
            layer: 0,
            leaves: 20..30,
        },
        LeafRun {
            layer: 0,
            leaves: 2..10,
        },
        LeafRun {
            layer: 4,
            leaves: 0..9,
        },
    ];
    let layers = vec![world.layer.clone()];
    let fetch = StartupFetch::start(
        layers,
        None,
        runs.clone(),
        &world.resources,
        &Account::new(&world.resources),
    );
    fetch.asked().await;
    until(|| (20..29).chain(3..9).all(|leaf| has(&world.layer, leaf))).await;
    let requests = world.requests();
    assert!(requests <= 12, "{requests} requests");
    world.check(21 * LEAF_SIZE..29 * LEAF_SIZE).await;
    assert_eq!(world.requests(), requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_pack_does_not_bring_is_fetched_as_chunks() {
    let source = World::new(gzip(LENGTH));
    let frames: Vec<Vec<LeafRun>> = (0..5)
        .map(|n| {
            vec![LeafRun {
                layer: 0,
                leaves: n * 8..n * 8 + 8,
            }]
        })
        .collect();
    let (table, mut bytes) = frames_of(&source, &frames).await;
    let at = table.frames[2].compressed.start as usize + 50;
    bytes[at..at + 50].fill(0xff);
    let world = source.emptied();
    let layers = vec![world.layer.clone()];
    let download = download(&Arc::new(FaultyBlob::new(bytes)));
    let fetch = StartupFetch::start(
        layers,
        Some(download),
        Vec::new(),
        &world.resources,
        &Account::new(&world.resources),
    );
    fetch.asked().await;
    until(|| (0..39).all(|leaf| has(&world.layer, leaf))).await;
    assert!(
        world.blob.reads().iter().all(|range| range.start > 0),
        "the pack brought the start"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_guessed_while_what_a_start_reads_is_known() {
    let policy = crate::Policy {
        read_ahead_bytes: 1 << 20,
        ..super::policy()
    };
    let guessed = |guided| async move {
        let budget = brisk_cache::Budget::Bytes(1 << 30);
        let world = World::with(gzip(LENGTH), policy, budget);
        let account = Account::new(&world.resources);
        account.guide(guided);
        for read in 0..40 {
            let read = world.layer.read_for(&account, read * 20_000, 20_000);
            read.await.unwrap();
        }
        // Guesses are tasks of their own.
        if !guided {
            let counters = world.resources.counters();
            until(|| counters.requests(crate::Cause::Speculation) > 0).await;
        }
        world
            .resources
            .counters()
            .requests(crate::Cause::Speculation)
    };
    assert_eq!(guessed(true).await, 0);
    assert!(guessed(false).await > 0);
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "waited in vain"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
