//! Tests of layers over a blob that misbehaves.

mod background;
mod closing;
mod content;
mod damage;
mod faults;
mod neighbours;
mod pack;
mod passing;
mod reads;
mod recorder;
mod recovery;
mod room;
mod streamed;

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use index_format::write::{LayerParts as IndexParts, write};
use index_format::{Compression, Digest, Features, Index, LEAF_SIZE, NewChunk, Tree};
use tokio::runtime::Handle;

use super::{
    Account, Closing, Comparison, FetchGate, FetchLimits, IndexCheckpoints, Layer, LayerOwner,
    LayerParts, OnOutage, Policy, ReadError, Resources,
};
use brisk_blob::faulty::FaultyBlob;
use brisk_cache::{Budget, Cache, LayerKey};
use brisk_codec::{self, ScanOptions};

/// Small chunks, so that small streams have many.
const CHUNK_SIZE: u64 = 200_000;

/// A layer as a registry holds it, and its index.
#[derive(Clone)]
struct Fixture {
    stream: Vec<u8>,
    blob: Vec<u8>,
    index: Index,
    index_bytes: Vec<u8>,
}

/// Bytes that compress about as a layer does, so that compressors end blocks often.
fn stream(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let mut bytes: Vec<u8> = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let roll = (state >> 33) as usize;
        if roll.is_multiple_of(3) && bytes.len() > 5000 {
            let start = bytes.len() - 1 - roll % 5000;
            let end = (start + 8 + roll % 40).min(bytes.len());
            bytes.extend_from_within(start..end);
        } else {
            bytes.extend_from_slice(&state.to_le_bytes()[2..]);
        }
    }
    bytes.truncate(length);
    bytes
}

fn compress(compression: Compression, stream: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => stream.to_vec(),
        Compression::Gzip => {
            let level = flate2::Compression::new(6);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(stream).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::bulk::compress(stream, 3).unwrap(),
    }
}

fn scan(compression: Compression, blob: &[u8], chunk_size: u64) -> brisk_codec::Scan {
    let options = ScanOptions {
        chunk_size,
        max_stream_size: 1 << 30,
        grows: false,
    };
    let mut scanner = brisk_codec::scanner(compression, options);
    scanner.push(blob, &mut |_| Ok(())).unwrap();
    scanner.finish().unwrap()
}

fn fixture(compression: Compression, stream: Vec<u8>) -> Fixture {
    forged(compression, stream, |_| {})
}

/// A layer whose index says something else of its chunks.
fn forged(
    compression: Compression,
    stream: Vec<u8>,
    forge: impl FnOnce(&mut Vec<NewChunk>),
) -> Fixture {
    let blob = compress(compression, &stream);
    let fixture = forged_of(compression, stream, blob, CHUNK_SIZE, forge);
    let count = fixture.index.chunk_count();
    assert!(count > 4, "{count} chunks");
    fixture
}

/// A layer that some writer has made of a stream.
fn fixture_of(
    compression: Compression,
    stream: Vec<u8>,
    blob: Vec<u8>,
    chunk_size: u64,
) -> Fixture {
    forged_of(compression, stream, blob, chunk_size, |_| {})
}

fn forged_of(
    compression: Compression,
    stream: Vec<u8>,
    blob: Vec<u8>,
    chunk_size: u64,
    forge: impl FnOnce(&mut Vec<NewChunk>),
) -> Fixture {
    let scan = scan(compression, &blob, chunk_size);
    let mut chunks: Vec<NewChunk> = scan
        .chunks
        .iter()
        .map(|chunk| NewChunk {
            stream_start: chunk.stream_start,
            compressed_start: chunk.compressed_start,
            compressed_end: Some(chunk.compressed_end),
            bit: chunk.bit,
            flags: chunk.flags,
            checkpoint: chunk.checkpoint.clone(),
        })
        .collect();
    forge(&mut chunks);
    let leaves: Vec<Digest> = stream.chunks(LEAF_SIZE as usize).map(Digest::of).collect();
    let index_bytes = write(&IndexParts {
        layer_digest: Digest::of(&blob),
        diff_id: Digest::of(&stream),
        compression,
        features: Features::default(),
        compressed_size: blob.len() as u64,
        stream_size: stream.len() as u64,
        tree: &Tree::new(),
        chunks: &chunks,
        leaves: &leaves,
        headers: &[],
    })
    .unwrap();
    let index = Index::open(index_bytes.clone()).unwrap();
    Fixture {
        stream,
        blob,
        index,
        index_bytes,
    }
}

fn gzip(length: usize) -> Fixture {
    fixture(Compression::Gzip, stream(length, 1))
}

/// One layer over a cache and a faulty blob.
struct World {
    fixture: Fixture,
    blob: Arc<FaultyBlob>,
    cache: Cache,
    resources: Arc<Resources>,
    layer: Arc<Layer>,
    /// What the closing hook has heard.
    closings: Arc<Mutex<Vec<Closing>>>,
    _directory: tempfile::TempDir,
}

fn policy() -> Policy {
    Policy {
        on_outage: OnOutage::Wait(Duration::from_secs(20)),
        attempt_limit: Duration::from_secs(20),
        read_ahead_bytes: 0,
    }
}

impl World {
    fn new(fixture: Fixture) -> World {
        World::with(fixture, policy(), Budget::Bytes(1 << 30))
    }

    fn with(fixture: Fixture, policy: Policy, budget: Budget) -> World {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("cache"), budget).unwrap();
        let blob = Arc::new(FaultyBlob::new(fixture.blob.clone()));
        let resources = Resources::new(Handle::current());
        let diff_id = Digest::of(&fixture.stream);
        let closings = Arc::default();
        let layer = layer(
            &fixture, &cache, &blob, &resources, policy, diff_id, &closings,
        );
        World {
            fixture,
            blob,
            cache,
            resources,
            layer,
            closings,
            _directory: directory,
        }
    }

    /// The same layer over the world's resources as they are now.
    fn reopened(&self) -> Arc<Layer> {
        let diff_id = Digest::of(&self.fixture.stream);
        layer(
            &self.fixture,
            &self.cache,
            &self.blob,
            &self.resources,
            policy(),
            diff_id,
            &self.closings,
        )
    }

    /// The same layer with nothing of it local.
    fn emptied(&self) -> World {
        World::with(self.fixture.clone(), policy(), Budget::Bytes(1 << 30))
    }

    async fn check(&self, range: Range<u64>) {
        let bytes = self
            .layer
            .read(range.start, range.end - range.start)
            .await
            .unwrap();
        assert!(
            bytes == self.fixture.stream[range.start as usize..range.end as usize],
            "{range:?}"
        );
    }

    fn size(&self) -> u64 {
        self.fixture.stream.len() as u64
    }

    fn requests(&self) -> usize {
        self.blob.reads().len()
    }

    fn chunk(&self, number: u32) -> index_format::Chunk {
        self.fixture.index.chunk(number).unwrap()
    }
}

/// Reads on behalf of no image in particular.
fn nobody() -> Arc<Account> {
    Account::new(&Resources::new(Handle::current()))
}

impl Layer {
    async fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        self.read_for(&nobody(), offset, length).await
    }

    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, ReadError> {
        self.try_read_for(&nobody(), offset, buffer)
    }
}

/// Hears of decisions; what it says of the comparison is given.
struct Listener {
    heard: Arc<Mutex<Vec<Closing>>>,
    answer: Result<bool, String>,
}

impl LayerOwner for Listener {
    fn compare(&self, _: &Index) -> Result<Box<dyn Comparison>, String> {
        Ok(Box::new(Verdict(self.answer.clone())))
    }

    fn decided(&self, _: &Layer, closing: Closing) {
        self.heard.lock().unwrap().push(closing);
    }
}

struct Verdict(Result<bool, String>);

impl Comparison for Verdict {
    fn push(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<bool, String> {
        self.0
    }
}

fn layer(
    fixture: &Fixture,
    cache: &Cache,
    blob: &Arc<FaultyBlob>,
    resources: &Arc<Resources>,
    policy: Policy,
    diff_id: Digest,
    closings: &Arc<Mutex<Vec<Closing>>>,
) -> Arc<Layer> {
    let key = LayerKey::trusted(fixture.index.layer_digest());
    let heard = closings.clone();
    Layer::new(LayerParts {
        index: fixture.index.clone(),
        checkpoints: Arc::new(IndexCheckpoints::new(fixture.index.clone())),
        file: cache.layer(&key, fixture.stream.len() as u64).unwrap(),
        blob: blob.clone(),
        gate: FetchGate::new(FetchLimits::default()),
        resources: resources.clone(),
        policy,
        diff_id,
        closing: Closing::Unclosed,
        owner: Box::new(Listener {
            heard,
            answer: Ok(true),
        }),
    })
    .unwrap()
}

/// Files as a killed process leaves them.
fn crash_copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            crash_copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A simple sequence of pseudo-random numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 20) % limit
    }

    fn range(&mut self, size: u64, longest: u64) -> Range<u64> {
        let start = self.below(size);
        start..(start + 1 + self.below(longest)).min(size)
    }
}
