//! Layers whose chunks cannot be asked for one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use index_format::write::{LayerParts as IndexParts, write};
use index_format::{Compression, Digest, Features, FormatError, Index, LEAF_SIZE, NewChunk, Tree};

use super::{Dice, Fixture, Listener, World, compress, fixture, nobody, policy, scan, stream};
use crate::{
    BackgroundFetch, BackgroundMode, BackgroundOutcome, CheckpointError, CheckpointSource,
    Checkpoints, Closing, FetchGate, FetchLimits, Layer, LayerParts, ReadError,
};
use brisk_blob::faulty::Fault;
use brisk_cache::{Budget, LayerKey};

/// Checkpoints that were damaged where they lie.
#[derive(Debug, Default)]
struct Damaged {
    asked: AtomicU32,
}

impl CheckpointSource for Damaged {
    fn load(&self) -> BoxFuture<'_, Result<Checkpoints, CheckpointError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let section = index_format::SectionId::Checkpoints;
        Box::pin(async move { Err(FormatError::SectionAbsent { section }.into()) })
    }
}

/// The world's layer again, with damaged checkpoints.
fn without_checkpoints(world: &mut World) -> Arc<Damaged> {
    let damaged = Arc::new(Damaged::default());
    let key = LayerKey::trusted(world.fixture.index.layer_digest());
    let heard = world.closings.clone();
    world.layer = Layer::new(LayerParts {
        index: world.fixture.index.clone(),
        checkpoints: damaged.clone(),
        file: world.cache.layer(&key, world.size()).unwrap(),
        blob: world.blob.clone(),
        gate: FetchGate::new(FetchLimits::default()),
        resources: world.resources.clone(),
        policy: policy(),
        diff_id: Digest::of(&world.fixture.stream),
        closing: Closing::Unclosed,
        owner: Box::new(Listener {
            heard,
            answer: Ok(true),
        }),
    })
    .unwrap();
    damaged
}

/// A layer with free chunks only, of which there is one.
pub(super) fn stream_only(compression: Compression, length: usize) -> Fixture {
    let part = stream(1_000_000, 3);
    let mut content = Vec::with_capacity(length);
    while content.len() < length {
        // Something new in each round, so that no two leaves are equal.
        content.extend_from_slice(&(content.len() as u64).to_le_bytes());
        content.extend_from_slice(&part[..part.len().min(length - content.len())]);
    }
    let blob = compress(compression, &content);
    let first = scan(compression, &blob, super::CHUNK_SIZE)
        .chunks
        .swap_remove(0);
    assert!(first.is_free());
    let chunk = NewChunk {
        stream_start: first.stream_start,
        compressed_start: first.compressed_start,
        compressed_end: None,
        bit: 0,
        flags: first.flags,
        checkpoint: Vec::new(),
    };
    let leaves: Vec<Digest> = content.chunks(LEAF_SIZE as usize).map(Digest::of).collect();
    let features = Features {
        optional: Features::STREAM_ONLY_LONG_CHUNK,
        ..Features::default()
    };
    let index_bytes = write(&IndexParts {
        layer_digest: Digest::of(&blob),
        diff_id: Digest::of(&content),
        compression,
        features,
        compressed_size: blob.len() as u64,
        stream_size: content.len() as u64,
        tree: &Tree::new(),
        chunks: &[chunk],
        leaves: &leaves,
        headers: &[],
    })
    .unwrap();
    let index = Index::open(index_bytes.clone()).unwrap();
    assert!(index.features().stream_only().is_some());
    Fixture {
        stream: content,
        blob,
        index,
        index_bytes,
    }
}

/// Longer than any chunk that is decoded at once.
const LONG: usize = 70 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn without_its_checkpoints_a_layer_is_decoded_from_its_start() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut world = World::new(fixture(compression, stream(3_000_000, 4)));
        let damaged = without_checkpoints(&mut world);
        let mut dice = Dice(7);
        world.check(world.size() - 100..world.size()).await;
        for _ in 0..100 {
            world.check(dice.range(world.size(), 100_000)).await;
        }
        assert_eq!(damaged.asked.load(Ordering::SeqCst), 1, "{compression}");
        assert_eq!(world.resources.counters().failed_reads(), 0);
        assert_eq!(world.layer.close().unwrap(), Closing::Closed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checkpoints_and_room_a_sequential_reader_goes_on_where_it_stopped() {
    let fixture = fixture(Compression::Zstd, stream(12_000_000, 4));
    let size = fixture.blob.len() as u64;
    let mut world = World::with(fixture, policy(), Budget::Bytes(0));
    without_checkpoints(&mut world);
    let mut at = 0;
    while at < world.size() {
        let end = (at + 500_000).min(world.size());
        world.check(at..end).await;
        at = end;
    }
    // Twelve times the layer, had each read started at its start.
    let fetched: u64 = world.blob.reads().iter().map(|r| r.end - r.start).sum();
    assert!(fetched < 2 * size, "{fetched} of {size}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_requests_swap_does_not_start_again() {
    // As a large window leaves a layer: one chunk, short enough to be decoded at once.
    let fixture = stream_only(Compression::Zstd, 40_000_000);
    let size = fixture.blob.len() as u64;
    let world = World::with(fixture, policy(), Budget::Bytes(0));
    let step = 128 << 10;
    let mut at = 0;
    while at + 2 * step <= world.size() {
        world.check(at + step..at + 2 * step).await;
        world.check(at..at + step).await;
        at += 2 * step;
    }
    let fetched: u64 = world.blob.reads().iter().map(|r| r.end - r.start).sum();
    // Twice: the last bytes of the blob yield more than memory keeps.
    assert!(fetched < 3 * size, "{fetched} of {size}");
}

#[tokio::test(flavor = "multi_thread")]
async fn background_brings_a_layer_without_checkpoints() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut world = World::new(fixture(compression, stream(5_000_000, 4)));
        without_checkpoints(&mut world);
        world.blob.inject([Fault::Error, Fault::Flip(128)]);
        let layers = vec![world.layer.clone()];
        let fetch =
            BackgroundFetch::start(layers, BackgroundMode::Full, &world.resources, &nobody());
        assert_eq!(fetch.outcome().await, BackgroundOutcome::Complete);
        world.check(0..world.size()).await;
        assert_eq!(*world.closings.lock().unwrap(), [Closing::Closed]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evicted_leaves_of_a_stream_only_layer_come_back() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let world = World::with(
            stream_only(compression, LONG),
            policy(),
            Budget::Bytes(4 << 20),
        );
        let late = LONG as u64 - 300_000;
        world.check(late..late + 200_000).await;
        world.check(100_000..300_000).await;
        // More than the budget: what came first has gone.
        world.check(10 << 20..15 << 20).await;
        world.check(100_000..300_000).await;
        world.check(late..late + 200_000).await;
        assert!(world.layer.file().present_bytes() <= 4 << 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn background_brings_a_stream_only_layer_whole() {
    let world = World::new(stream_only(Compression::Gzip, LONG));
    let layers = vec![world.layer.clone()];
    let fetch = BackgroundFetch::start(layers, BackgroundMode::Full, &world.resources, &nobody());
    // A reader meanwhile.
    world.check(5 << 20..6 << 20).await;
    assert_eq!(fetch.outcome().await, BackgroundOutcome::Complete);
    assert_eq!(*world.closings.lock().unwrap(), [Closing::Closed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_a_streamed_layer_are_never_served() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut world = World::new(fixture(compression, stream(2_000_000, 9)));
        without_checkpoints(&mut world);
        world.blob.stand(Some(Fault::Flip(128)));
        let mut failed = 0;
        for at in (0..2_000_000).step_by(50_000) {
            match world.layer.read(at, 50_000).await {
                Ok(bytes) => {
                    let at = at as usize;
                    let right = &world.fixture.stream[at..at + 50_000];
                    assert!(bytes == right, "{compression} {at}");
                }
                Err(ReadError::Corrupt { .. }) => failed += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(failed > 0);
        // It was the way here and not the blob.
        world.blob.stand(None);
        world.check(0..world.size()).await;
    }
}
