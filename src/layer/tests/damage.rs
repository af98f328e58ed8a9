//! Every byte of a layer or of its index damaged: what is read is right, or an error. The damage is
//! in the file itself, so that fetching anew does not help.

use std::sync::Arc;

use index_format::{Compression, Digest, Index, InodeNumber, Limits, merge};
use tokio::runtime::Handle;

use super::{Dice, Fixture, Listener, fixture_of, policy, stream};
use crate::{
    Closing, FetchGate, FetchLimits, IndexCheckpoints, Layer, LayerParts, OnOutage, Policy,
    ReadError, Resources,
};
use brisk_blob::faulty::FaultyBlob;
use brisk_cache::{Budget, Cache, LayerKey};
use brisk_codec::writers::run;
use brisk_indexer::{Discard, IndexOptions, LayerIndexer};

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
        self.layer_by(&self.fixture.index, blob).unwrap()
    }

    /// The same blob as another index describes it.
    fn layer_by(&self, index: &Index, blob: Vec<u8>) -> Result<Arc<Layer>, ReadError> {
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

#[tokio::test(flavor = "multi_thread")]
async fn every_damaged_byte_of_a_small_layer_is_noticed_or_harmless() {
    let content = stream(5_000, 5);
    let gzip = run("gzip", &["-6", "-n"], &content);
    let zstd = run("zstd", &["-3"], &content);
    let members = [
        run("gzip", &["-9", "-n"], &content[..2_500]),
        run("gzip", &["-1", "-n"], &content[2_500..]),
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
        let blob = run(name, &arguments, &content);
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
    let blob = run("gzip", &["-6", "-n"], &content);
    let lab = Lab::new(fixture_of(Compression::Gzip, content, blob.clone(), 50_000));
    let mut cut = blob.clone();
    let end = cut.len() / 2;
    cut[end..].fill(0);
    let read = lab.layer(cut).read(0, 300_000).await;
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
}

/// Everything that an index says of its tree.
fn tree_of(index: &Index) -> String {
    let mut said = String::new();
    for number in (1..=index.inode_count()).map(InodeNumber) {
        let inode = index.inode(number).unwrap();
        said += &format!("{inode:?} {:?}\n", index.content_digest(number));
        if inode.kind == index_format::FileKind::Directory {
            for entry in index.entries(number).unwrap() {
                said += &format!("{:?}\n", entry.unwrap());
            }
        }
        for pair in index.xattrs(number).unwrap() {
            said += &format!("{:?}\n", pair.unwrap());
        }
    }
    said
}

/// Damages every byte of the header and random ones of the rest by `PATTERNS`; what is refused
/// neither when it is opened nor when it is validated must have another identity, and goes to
/// `accepted`.
fn damage_index(bytes: &[u8], mut accepted: impl FnMut(Index)) {
    let good = Index::open(bytes.to_vec()).unwrap();
    good.validate().unwrap();
    let mut dice = Dice(21);
    let header = good.header().length as usize;
    let of_header = (0..header).flat_map(|at| PATTERNS.map(|pattern| (at, pattern)));
    let random = (0..1_000).map(|number| {
        let at = dice.below(bytes.len() as u64) as usize;
        (at, PATTERNS[number % PATTERNS.len()])
    });
    for (position, pattern) in of_header.chain(random) {
        let mut damaged = bytes.to_vec();
        damaged[position] ^= pattern;
        let Ok(index) = Index::open(damaged) else {
            continue;
        };
        if index.validate().is_ok() {
            assert!(position < header, "byte {position} ^ {pattern:#x}");
            assert_ne!(index.digest(), good.digest());
            accepted(index);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_of_real_indexes_are_noticed_or_harmless() {
    // The sources of this project, as a layer.
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let arguments = ["--sort=name", "-C", project, "-c", "src", "index-format"];
    let content = run("tar", &arguments, b"");
    for (compression, program) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
        let blob = run(program, &["-3"], &content);
        let options = IndexOptions {
            chunk_size: Some(200_000),
            ..IndexOptions::default()
        };
        let mut indexer = LayerIndexer::new(compression, options).unwrap();
        indexer.push(&blob, &mut Discard).unwrap();
        let bytes = indexer.finish().unwrap().bytes;
        let index = Index::open(bytes.clone()).unwrap();
        let tree = tree_of(&index);
        assert!(index.inode_count() > 300 && index.chunk_count() > 5);
        let merged = merge(std::slice::from_ref(&index), &Limits::default())
            .unwrap()
            .bytes;
        let lab = Lab::new(Fixture {
            stream: content.clone(),
            blob,
            index,
            index_bytes: bytes.clone(),
        });

        let mut accepted = Vec::new();
        damage_index(&bytes, |index| accepted.push(index));
        // Digests, features and compression are no more than claims: whoever reads an index holds
        // them against what the image says.
        assert!(accepted.len() > 200, "{}", accepted.len());
        let mut served = 0;
        for index in accepted {
            assert!(tree_of(&index) == tree);
            // Of another size than the cache or the blob: refused here.
            let Ok(layer) = lab.layer_by(&index, lab.fixture.blob.clone()) else {
                continue;
            };
            for number in [0, index.chunk_count() - 1] {
                let range = index.chunk(number).unwrap().stream;
                if let Ok(bytes) = layer.read(range.start, range.end - range.start).await {
                    assert!(bytes == content[range.start as usize..range.end as usize]);
                    served += 1;
                }
            }
        }
        assert!(served > 100, "{served}");

        let whole = tree_of(&Index::open(merged.clone()).unwrap());
        damage_index(&merged, |index| assert!(tree_of(&index) == whole));
    }
}
