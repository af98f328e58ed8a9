//! Comparing a layer with its diff ID.

use std::sync::Arc;

use index_format::{Digest, LEAF_SIZE};
use tokio::runtime::Handle;

use super::{World, gzip, layer, nobody, policy};
use crate::{
    BackgroundFetch, BackgroundMode, BackgroundOutcome, CloseError, Closing, ReadError, Resources,
};
use brisk_blob::faulty::FaultyBlob;
use brisk_cache::{Budget, Cache};

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_layer_cannot_be_closed() {
    let world = World::new(gzip(1_500_000));
    assert!(matches!(
        world.layer.close(),
        Err(CloseError::Incomplete { .. })
    ));
    world.check(0..world.size()).await;
    assert_eq!(world.layer.close().unwrap(), Closing::Closed);
    assert_eq!(world.layer.close().unwrap(), Closing::Closed);
    assert_eq!(*world.closings.lock().unwrap(), [Closing::Closed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_index_is_poisoned_and_its_reads_fail() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), Budget::Bytes(1 << 30)).unwrap();
    let fixture = gzip(1_500_000);
    let blob = Arc::new(FaultyBlob::new(fixture.blob.clone()));
    let resources = Resources::new(Handle::current());
    let closings = Arc::default();
    let config_says = Digest::of(b"another tar");
    let layer = layer(
        &fixture,
        &cache,
        &blob,
        &resources,
        policy(),
        config_says,
        &closings,
    );
    assert_eq!(layer.read(0, 5).await.unwrap(), fixture.stream[..5]);
    let fetch = BackgroundFetch::start(
        vec![layer.clone()],
        BackgroundMode::Full,
        &resources,
        &nobody(),
    );
    assert_eq!(fetch.outcome().await, BackgroundOutcome::Corrupt);
    assert_eq!(layer.closing(), Closing::Poisoned);
    assert_eq!(*closings.lock().unwrap(), [Closing::Poisoned]);
    let refused = layer.read(0, 5).await.unwrap_err();
    assert!(matches!(refused, ReadError::Poisoned { .. }));
    assert_eq!(refused.errno(), nix::errno::Errno::EIO);
    assert!(layer.try_read(LEAF_SIZE, &mut [0; 5]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn poisoning_ends_reads_that_wait() {
    let world = Arc::new(World::new(gzip(1_500_000)));
    world.blob.inject([brisk_blob::faulty::Fault::Delay(
        std::time::Duration::from_millis(200),
    )]);
    let reader = tokio::spawn({
        let layer = world.layer.clone();
        async move { layer.read(0, 10).await }
    });
    while world.requests() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    world.layer.poison();
    assert!(matches!(
        reader.await.unwrap(),
        Err(ReadError::Poisoned { .. })
    ));
    assert_eq!(*world.closings.lock().unwrap(), [Closing::Poisoned]);
}
