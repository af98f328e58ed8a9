//! Closing layers that the cache cannot hold.

use index_format::{Compression, Digest, LEAF_SIZE};

use super::streamed::stream_only;
use super::{Fixture, Listener, World, fixture, forged, gzip, nobody, policy, stream};
use crate::{
    BackgroundFetch, BackgroundMode, BackgroundOutcome, Cause, Closing, FetchGate, FetchLimits,
    IndexCheckpoints, Layer, LayerParts, Purpose, ReadError,
};
use brisk_blob::faulty::Fault;
use brisk_cache::{Budget, LayerKey};

const ROOM: u64 = 8 * LEAF_SIZE;

fn cramped(fixture: Fixture) -> World {
    World::with(fixture, policy(), Budget::Bytes(ROOM))
}

/// The world's layer again, with another diff ID or another answer of its owner.
fn reopen(world: &mut World, diff_id: Digest, answer: Result<bool, String>) {
    let key = LayerKey::trusted(world.fixture.index.layer_digest());
    let index = world.fixture.index.clone();
    let heard = world.closings.clone();
    world.layer = Layer::new(LayerParts {
        checkpoints: std::sync::Arc::new(IndexCheckpoints::new(index.clone())),
        index,
        file: world.cache.layer(&key, world.size()).unwrap(),
        blob: world.blob.clone(),
        gate: FetchGate::new(FetchLimits::default()),
        resources: world.resources.clone(),
        policy: policy(),
        diff_id,
        closing: Closing::Unclosed,
        owner: Box::new(Listener { heard, answer }),
    })
    .unwrap();
}

async fn background(world: &World, mode: BackgroundMode) -> BackgroundOutcome {
    let fetch =
        BackgroundFetch::start(vec![world.layer.clone()], mode, &world.resources, &nobody());
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, fetch.outcome()).await.unwrap()
}

async fn assert_poisoned(world: &World) {
    let outcome = background(world, BackgroundMode::Full).await;
    assert_eq!(outcome, BackgroundOutcome::Corrupt);
    assert_eq!(world.layer.closing(), Closing::Poisoned);
    assert_eq!(*world.closings.lock().unwrap(), [Closing::Poisoned]);
    let refused = world.layer.read(0, 5).await.unwrap_err();
    assert!(matches!(refused, ReadError::Poisoned { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_layer_is_closed_without_being_kept() {
    let layers = [
        fixture(Compression::Gzip, stream(3_000_000, 4)),
        fixture(Compression::Zstd, stream(3_000_000, 4)),
        fixture(Compression::None, stream(3_000_000, 4)),
        stream_only(Compression::Gzip, 70 << 20),
    ];
    for honest in layers {
        let compression = honest.index.compression();
        let world = cramped(honest);
        let outcome = background(&world, BackgroundMode::Full).await;
        assert_eq!(outcome, BackgroundOutcome::NoRoom, "{compression}");
        assert_eq!(world.layer.closing(), Closing::Closed, "{compression}");
        assert_eq!(*world.closings.lock().unwrap(), [Closing::Closed]);
        assert!(world.cache.usage().used_bytes <= ROOM);
        assert_eq!(world.cache.usage().evicted_bytes, 0);
        // Decided is decided.
        let requests = world.requests();
        assert!(
            world
                .layer
                .close_in_passing(&Purpose::new(Cause::Background, &nobody()))
                .await
                .is_ok()
        );
        assert_eq!(world.requests(), requests, "{compression}");
        world.check(world.size() - 1000..world.size()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_its_owner_finds_wrong_is_poisoned_in_passing() {
    let mut world = cramped(gzip(3_000_000));
    let diff_id = Digest::of(&world.fixture.stream);
    reopen(&mut world, diff_id, Ok(false));
    assert_poisoned(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_with_another_diff_id_is_poisoned_in_passing() {
    let mut world = cramped(gzip(3_000_000));
    // Whatever else is wrong with it.
    let answer = Err("no tar".to_owned());
    reopen(&mut world, Digest::of(b"another tar"), answer);
    assert_poisoned(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_last_chunk_cannot_be_decoded_is_poisoned_in_passing() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        // Beyond what the cache has room for: nothing but the pass gets there.
        let world = cramped(forged(compression, stream(3_000_000, 4), |chunks| {
            let first = chunks[1].checkpoint.clone();
            chunks.last_mut().unwrap().checkpoint = first;
        }));
        assert_poisoned(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_damaged_decides_nothing_and_is_not_fetched_for_it_again() {
    let mut damaged = gzip(3_000_000);
    let last = damaged.blob.len() - 1000;
    damaged.blob[last] ^= 0xff;
    let world = cramped(damaged);
    let outcome = background(&world, BackgroundMode::Full).await;
    assert_eq!(outcome, BackgroundOutcome::NoRoom);
    assert_eq!(world.layer.closing(), Closing::Unclosed);
    assert!(world.closings.lock().unwrap().is_empty());
    let requests = world.requests();
    assert_eq!(
        world
            .layer
            .close_in_passing(&Purpose::new(Cause::Background, &nobody()))
            .await
            .unwrap(),
        Closing::Unclosed
    );
    assert_eq!(world.requests(), requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_passed_once_in_a_services_life() {
    let mut world = cramped(gzip(3_000_000));
    let diff_id = Digest::of(&world.fixture.stream);
    for expected in [true, false] {
        reopen(&mut world, diff_id, Err("no tar".to_owned()));
        let requests = world.requests();
        let closing = world
            .layer
            .close_in_passing(&Purpose::new(Cause::Background, &nobody()))
            .await;
        assert_eq!(closing.is_err(), expected);
        assert_eq!(world.requests() > requests, expected);
        assert_eq!(world.layer.closing(), Closing::Unclosed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_goes_on_where_an_outage_stopped_it() {
    let world = cramped(gzip(8_000_000));
    let first = Fault::Delay(std::time::Duration::ZERO);
    let outage = [first, Fault::Error, Fault::Short, Fault::Error];
    world.blob.inject(outage);
    let closing = world
        .layer
        .close_in_passing(&Purpose::new(Cause::Background, &nobody()))
        .await
        .unwrap();
    assert_eq!(closing, Closing::Closed);
    assert!(world.resources.counters().failed_requests() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_full_background_lets_a_layer_pass() {
    let world = cramped(gzip(3_000_000));
    for mode in [BackgroundMode::Off, BackgroundMode::UntilReady] {
        background(&world, mode).await;
        assert_eq!(world.layer.closing(), Closing::Unclosed);
    }
}
