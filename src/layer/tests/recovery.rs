//! After an unclean stop, and checkpoints that are fetched when they are needed.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use index_format::{Index, LEAF_SIZE, Limits, SectionId, wire};
use tokio::runtime::Handle;

use super::{Listener, World, crash_copy, gzip, layer, policy};
use crate::{Closing, FetchGate, FetchLimits, FetchedCheckpoints, Layer, LayerParts, Resources};
use brisk_blob::faulty::{Fault, FaultyBlob};
use brisk_cache::{Budget, Cache, LayerKey};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_what_was_lost_is_fetched_and_the_rest_is_not() {
    let world = World::new(gzip(2_000_000));
    world.check(0..world.size()).await;
    let directory = tempfile::tempdir().unwrap();
    let after = directory.path().join("after");
    crash_copy(&world._directory.path().join("cache"), &after);
    let copy = after
        .join("trusted")
        .join(world.layer.digest().hex())
        .join("stream");
    let copy = std::fs::File::options().write(true).open(copy).unwrap();
    copy.write_all_at(&vec![0; LEAF_SIZE as usize], 7 * LEAF_SIZE)
        .unwrap();

    let cache = Cache::open(&after, Budget::Bytes(1 << 30)).unwrap();
    let blob = Arc::new(FaultyBlob::new(world.fixture.blob.clone()));
    let resources = Resources::new(Handle::current());
    let diff_id = world.fixture.index.diff_id();
    let layer = layer(
        &world.fixture,
        &cache,
        &blob,
        &resources,
        policy(),
        diff_id,
        &Arc::default(),
    );
    let mut buffer = vec![0; 7 * LEAF_SIZE as usize];
    assert!(layer.try_read(0, &mut buffer).unwrap());
    assert!(buffer == world.fixture.stream[..7 * LEAF_SIZE as usize]);
    assert_eq!(blob.reads(), []);
    let all = layer.read(0, world.size()).await.unwrap();
    assert!(all == world.fixture.stream);
    assert!((1..=2).contains(&blob.reads().len()));
    assert_eq!(layer.close().unwrap(), Closing::Closed);
}

/// A layer with only the hot part of its index, and the rest in a blob.
struct Remote {
    layer: Arc<Layer>,
    cold: Arc<FaultyBlob>,
}

fn remote(world: &World, directory: &std::path::Path) -> Remote {
    let encoded = wire::encode(&world.fixture.index_bytes).unwrap();
    let hot = wire::decode_hot(&encoded.hot, &Limits::default()).unwrap();
    let index = Index::open(hot).unwrap();
    assert!(index.is_hot_only());
    let mut artifact = vec![7; 100];
    let section = encoded
        .cold
        .iter()
        .find(|(id, _)| *id == SectionId::Checkpoints);
    artifact.extend_from_slice(&section.unwrap().1);
    let range = 100..artifact.len() as u64;
    let cold = Arc::new(FaultyBlob::new(artifact));
    let key = LayerKey {
        scope: brisk_cache::Scope::Untrusted {
            repository: "a/b".into(),
            index: index.digest(),
        },
        layer: index.layer_digest(),
    };
    let layer = Layer::new(LayerParts {
        checkpoints: Arc::new(FetchedCheckpoints {
            index: index.clone(),
            blob: cold.clone(),
            range,
            path: directory.join("checkpoints"),
            limits: Limits::default(),
        }),
        file: world.cache.layer(&key, index.stream_size()).unwrap(),
        blob: world.blob.clone(),
        gate: FetchGate::new(FetchLimits::default()),
        resources: world.resources.clone(),
        policy: policy(),
        diff_id: index.diff_id(),
        closing: Closing::Unclosed,
        owner: Box::new(Listener {
            heard: Arc::default(),
            answer: Ok(true),
        }),
        index,
    });
    Remote {
        layer: layer.unwrap(),
        cold,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_fetched_once_and_only_when_needed() {
    let world = World::new(gzip(2_000_000));
    let directory = tempfile::tempdir().unwrap();
    let one = remote(&world, directory.path());
    // From the start on, what was decoded before is the window.
    for chunk in 0..3 {
        let range = world.chunk(chunk).stream;
        let bytes = one
            .layer
            .read(range.start, range.end - range.start)
            .await
            .unwrap();
        assert!(bytes == world.fixture.stream[range.start as usize..range.end as usize]);
    }
    assert_eq!(one.cold.reads(), []);
    one.cold.inject([Fault::Error]);
    for at in [1_700_000, 1_300_000, 1_999_990] {
        let bytes = one.layer.read(at, 10).await.unwrap();
        assert_eq!(bytes, world.fixture.stream[at as usize..at as usize + 10]);
    }
    assert_eq!(one.cold.reads().len(), 2);
    drop(one);

    // Kept in a file; a damaged file is noticed.
    let path = directory.path().join("checkpoints");
    for (damage, fetches) in [(false, 0), (true, 1)] {
        if damage {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[9] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        world.cache.layers();
        let again = remote(&world, directory.path());
        let checkpoints = again.layer.checkpoints(crate::Cause::Demand).await.unwrap();
        let chunk = world.chunk(4);
        let expected = world.fixture.index.checkpoint(&chunk).unwrap();
        assert_eq!(checkpoints.record(&chunk).unwrap(), expected);
        assert_eq!(again.cold.reads().len(), fetches);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_that_do_not_match_the_index_are_fetched_anew_and_then_done_without() {
    let world = World::new(gzip(2_000_000));
    let directory = tempfile::tempdir().unwrap();
    let one = remote(&world, directory.path());
    one.cold.inject([Fault::Flip(200)]);
    let expected = &world.fixture.stream[1_700_000..1_700_010];
    assert_eq!(one.layer.read(1_700_000, 10).await.unwrap(), expected);
    assert_eq!(one.cold.reads().len(), 2);
    assert!(directory.path().join("checkpoints").exists());
    drop(one);

    let (world, directory) = (World::new(gzip(2_000_000)), tempfile::tempdir().unwrap());
    let one = remote(&world, directory.path());
    one.cold.stand(Some(Fault::Flip(200)));
    assert_eq!(one.layer.read(1_700_000, 10).await.unwrap(), expected);
    assert_eq!(one.layer.read(1_300_000, 10).await.unwrap().len(), 10);
    assert_eq!(one.cold.reads().len(), 2);
    assert!(!directory.path().join("checkpoints").exists());
}
