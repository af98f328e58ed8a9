//! Disks and budgets that do not hold what is read.

use index_format::LEAF_SIZE;

use super::{World, gzip, nobody, policy};
use crate::{BackgroundFetch, BackgroundMode, BackgroundOutcome};
use brisk_cache::Budget;

#[tokio::test(flavor = "multi_thread")]
async fn without_any_room_reads_are_right_and_chunks_not_fetched_per_read() {
    let world = World::with(gzip(3_000_000), policy(), Budget::Bytes(0));
    let chunks = world.fixture.index.chunk_count() as usize;
    let step = 32 << 10;
    let mut at = 0;
    while at < world.size() {
        world.check(at..(at + step).min(world.size())).await;
        at += step;
    }
    assert_eq!(world.cache.usage().used_bytes, 0);
    assert!(world.cache.usage().not_kept > 0);
    assert!(
        world.requests() <= chunks + 2,
        "{} requests, {chunks} chunks",
        world.requests()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn background_stops_where_the_budget_ends_and_demand_goes_on() {
    let world = World::with(gzip(3_000_000), policy(), Budget::Bytes(20 * LEAF_SIZE));
    let layers = vec![world.layer.clone()];
    let fetch = BackgroundFetch::start(layers, BackgroundMode::Full, &world.resources, &nobody());
    assert_eq!(fetch.outcome().await, BackgroundOutcome::NoRoom);
    let kept = world.cache.usage().used_bytes;
    assert!(
        kept > 15 * LEAF_SIZE && kept <= 20 * LEAF_SIZE,
        "{}",
        kept / LEAF_SIZE
    );
    assert_eq!(world.cache.usage().evicted_bytes, 0);
    world.check(world.size() - 1_000_000..world.size()).await;
    assert!(world.cache.usage().evicted_bytes > 0);
}
