//! Digests on threads of their own, so that decompression alone sets the pace. Each digest has one
//! thread that takes blocks in order; results do not depend on timing.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use index_format::{Digest, LEAF_SIZE};
use sha2::{Digest as _, Sha256};

/// Bytes that are passed on at a time: four leaves, small enough to stay in a core's cache until
/// all threads are through, large enough to make passing them on cheap.
pub const BLOCK_SIZE: usize = 4 * LEAF_SIZE as usize;

/// Blocks that may wait for one thread: 2 MiB each, so that a slow one holds the others up before
/// memory grows.
const QUEUE: usize = 8;

/// A piece of the compressed layer or of its stream, shared by the threads.
pub type Block = Arc<Vec<u8>>;

/// A run of file data within a block.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Start in the block.
    pub start: usize,
    /// End in the block.
    pub end: usize,
    /// Whether the file ends here.
    pub last: bool,
}

/// A thread that is fed with items and answers once, at their end.
struct Worker<I, O> {
    items: SyncSender<I>,
    thread: JoinHandle<O>,
}

impl<I: Send + 'static, O: Send + 'static> Worker<I, O> {
    fn start(
        name: &str,
        work: impl FnOnce(&mut dyn Iterator<Item = I>) -> O + Send + 'static,
    ) -> io::Result<Self> {
        let (items, received) = sync_channel(QUEUE);
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&mut received.into_iter()))?;
        Ok(Self { items, thread })
    }

    fn give(&self, item: I) {
        // Only a panicked thread has hung up, and `finish` hands the panic on.
        let _ = self.items.send(item);
    }

    fn finish(self) -> O {
        drop(self.items);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// All digests of a layer that are made while it passes.
pub struct Hashers {
    layer: Worker<Block, Digest>,
    stream: Worker<Block, Digest>,
    leaves: Worker<Block, Vec<Digest>>,
    contents: Worker<(Block, Vec<Cut>), Vec<Digest>>,
}

/// What the hashers found.
pub struct Digests {
    /// Of the compressed bytes.
    pub layer: Digest,
    /// Of the stream.
    pub stream: Digest,
    /// Of every leaf of the stream.
    pub leaves: Vec<Digest>,
    /// Of every file that was cut out, in the order of the stream.
    pub contents: Vec<Digest>,
}

impl Hashers {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start() -> io::Result<Self> {
        Ok(Self {
            layer: Worker::start("layer-digest", |blocks| whole(blocks))?,
            stream: Worker::start("diff-id", |blocks| whole(blocks))?,
            leaves: Worker::start("leaf-digests", |blocks| leaves(blocks))?,
            contents: Worker::start("file-digests", |blocks| contents(blocks))?,
        })
    }

    /// Takes the next compressed bytes.
    pub fn compressed(&self, block: Block) {
        self.layer.give(block);
    }

    /// Takes the next block of the stream: [`BLOCK_SIZE`] bytes, except for the last one.
    pub fn stream(&self, block: Block, cuts: Vec<Cut>) {
        self.stream.give(Arc::clone(&block));
        self.leaves.give(Arc::clone(&block));
        if !cuts.is_empty() {
            self.contents.give((block, cuts));
        }
    }

    /// Waits for the digests.
    ///
    /// # Panics
    /// When a hashing thread did.
    pub fn finish(self) -> Digests {
        Digests {
            layer: self.layer.finish(),
            stream: self.stream.finish(),
            leaves: self.leaves.finish(),
            contents: self.contents.finish(),
        }
    }
}

fn digest(hasher: Sha256) -> Digest {
    Digest::from_bytes(hasher.finalize().into())
}

fn whole(blocks: &mut dyn Iterator<Item = Block>) -> Digest {
    let mut hasher = Sha256::new();
    blocks.for_each(|block| hasher.update(block.as_slice()));
    digest(hasher)
}

fn leaves(blocks: &mut dyn Iterator<Item = Block>) -> Vec<Digest> {
    let mut digests = Vec::new();
    for block in blocks {
        digests.extend(block.chunks(LEAF_SIZE as usize).map(Digest::of));
    }
    digests
}

fn contents(blocks: &mut dyn Iterator<Item = (Block, Vec<Cut>)>) -> Vec<Digest> {
    let mut digests = Vec::new();
    let mut hasher = Sha256::new();
    for (block, cuts) in blocks {
        for cut in cuts {
            hasher.update(&block[cut.start..cut.end]);
            if cut.last {
                digests.push(digest(std::mem::take(&mut hasher)));
            }
        }
    }
    digests
}
