//! Every byte of a layer damaged: what is read is right, or an error. The damage is in the blob
//! itself, so that fetching anew does not help.

use std::sync::Arc;

use index_format::{Compression, Digest};
use tokio::runtime::Handle;

use super::{Dice, Fixture, Listener, fixture_of, policy, stream};
use crate::{
    Closing, FetchGate, FetchLimits, IndexCheckpoints, Layer, LayerParts, OnOutage, Policy,
    ReadError, Resources,
};
use brisk_blob::faulty::FaultyBlob;
use brisk_cache::{Budget, Cache, LayerKey};

const PATTERNS: [u8; 3] = [0x01, 0x80, 0xff];

/// Layers over damaged copies of one blob, without room to keep anything.
struct Lab {
    fixture: Fixture,
    cache: Cache,
    resources: Arc<Resources>,
    _directory: tempfile::TempDir,
}

impl Lab {
    fn new(fixture: Fixture) -> Lab {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("cache"), Budget::Bytes(0)).unwrap();
        let resources = Resources::new(Handle::current());
        Lab {
            fixture,
            cache,
            resources,
            _directory: directory,
        }
    }

    fn layer(&self, blob: Vec<u8>) -> Arc<Layer> {
        let index = &self.fixture.index;
        let key = LayerKey::trusted(index.layer_digest());
        Layer::new(LayerParts {
            index: index.clone(),
            checkpoints: Arc::new(IndexCheckpoints::new(index.clone())),
            file: self.cache.layer(&key, index.stream_size()).unwrap(),
            blob: Arc::new(FaultyBlob::new(blob)),
            gate: FetchGate::new(FetchLimits::default()),
            resources: self.resources.clone(),
            policy: Policy {
                on_outage: OnOutage::Eio,
                ..policy()
            },
            diff_id: Digest::of(&self.fixture.stream),
            closing: Closing::Unclosed,
            owner: Box::new(Listener {
                heard: Arc::default(),
                answer: Ok(true),
            }),
        })
        .unwrap()
    }

    /// Reads what a damaged byte may spoil; whether that was noticed.
    async fn is_noticed(&self, position: usize, pattern: u8) -> bool {
        let mut blob = self.fixture.blob.clone();
        blob[position] ^= pattern;
        let layer = self.layer(blob);
        let stream = &self.fixture.stream;
        let mut noticed = false;
        for number in 0..self.fixture.index.chunk_count() {
            let chunk = self.fixture.index.chunk(number).unwrap();
            if !chunk.compressed.contains(&(position as u64)) {
                continue;
            }
            let (start, end) = (chunk.stream.start, chunk.stream.end);
            match layer.read(start, end - start).await {
                Ok(bytes) => assert!(
                    bytes == stream[start as usize..end as usize],
                    "wrong bytes served: byte {position} ^ {pattern:#x}, chunk {number}"
                ),
                Err(ReadError::Corrupt { .. }) => noticed = true,
                Err(other) => panic!("byte {position} ^ {pattern:#x}: {other}"),
            }
        }
        noticed
    }
}

fn program(program: &str, arguments: &[&str], content: &[u8]) -> Vec<u8> {
    super::neighbours::run(program, arguments, content)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_byte_of_a_small_layer_is_noticed_or_harmless() {
    let content = stream(5_000, 5);
    let gzip = program("gzip", &["-6", "-n"], &content);
    let zstd = program("zstd", &["-3"], &content);
    let members = [
        program("gzip", &["-9", "-n"], &content[..2_500]),
        program("gzip", &["-1", "-n"], &content[2_500..]),
    ];
    for (compression, blob) in [
        (Compression::Gzip, gzip),
        (Compression::Gzip, members.concat()),
        (Compression::Zstd, zstd),
    ] {
        assert!(blob.len() < 64 << 10);
        let lab = Lab::new(fixture_of(compression, content.clone(), blob, 1_500));
        let (mut noticed, count) = (0, lab.fixture.blob.len());
        for position in 0..count {
            for pattern in PATTERNS {
                noticed += usize::from(lab.is_noticed(position, pattern).await);
            }
        }
        assert!(noticed > count, "{compression}: {noticed} of {count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_damaged_bytes_of_a_large_layer_are_noticed_or_harmless() {
    let content = stream(2_000_000, 6);
    for (compression, name, arguments) in [
        (Compression::Gzip, "gzip", ["-6", "-n"]),
        (Compression::Zstd, "zstd", ["-3", "--no-progress"]),
    ] {
        let blob = program(name, &arguments, &content);
        let lab = Lab::new(fixture_of(compression, content.clone(), blob, 100_000));
        let mut dice = Dice(11);
        let mut noticed = 0;
        for _ in 0..1_000 {
            let position = dice.below(lab.fixture.blob.len() as u64) as usize;
            let pattern = PATTERNS[dice.below(3) as usize];
            noticed += u32::from(lab.is_noticed(position, pattern).await);
        }
        assert!(noticed > 500, "{compression}: {noticed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_blob_gives_an_error() {
    let content = stream(300_000, 7);
    let blob = program("gzip", &["-6", "-n"], &content);
    let lab = Lab::new(fixture_of(Compression::Gzip, content, blob.clone(), 50_000));
    let mut cut = blob.clone();
    let end = cut.len() / 2;
    cut[end..].fill(0);
    let read = lab.layer(cut).read(0, 300_000).await;
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
}
