//! The content of a mounted image's files, for the mounted tree.

use std::cell::RefCell;
use std::sync::Arc;

use fuse::{Content, Done, Piece};
use tokio::sync::Semaphore;

use super::{Account, Layer, ReadError, Recorder, Resources};

/// Reads of missing content that are worked on at a time, per image; the others queue. Each one
/// may hold some chunks in memory, compressed and decoded: about 8 MiB.
pub const MAX_WAITING_READS: usize = 64;

thread_local! {
    /// The answer under construction: reused, so that a local read allocates nothing.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The layers of one image, in the order of its merged index.
#[derive(Debug, Clone)]
pub struct ImageContent {
    layers: Arc<[Arc<Layer>]>,
    resources: Arc<Resources>,
    account: Arc<Account>,
    recorder: Arc<Recorder>,
    places: Arc<Semaphore>,
}

impl ImageContent {
    /// The content of these layers, number 0 first.
    pub fn new(layers: Vec<Arc<Layer>>, resources: Arc<Resources>) -> ImageContent {
        let places = Arc::new(Semaphore::new(MAX_WAITING_READS));
        let recorder = Recorder::new(&layers);
        ImageContent {
            layers: layers.into(),
            account: Account::new(&resources),
            resources,
            recorder,
            places,
        }
    }

    /// What was done for the image.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(super) fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The image's layers.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// Records what is read first, once it is started.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    fn layer(&self, number: u32) -> Result<&Arc<Layer>, ReadError> {
        let count = self.layers.len();
        self.layers
            .get(number as usize)
            .ok_or(ReadError::NoSuchLayer { number, count })
    }

    /// Fills the buffer from the cache; false when something is missing.
    fn read_local(&self, pieces: &[Piece], buffer: &mut Vec<u8>) -> Result<bool, ReadError> {
        buffer.clear();
        for piece in pieces {
            let start = buffer.len();
            match *piece {
                Piece::Zeros { length } => buffer.resize(start + length as usize, 0),
                Piece::Stream {
                    layer,
                    offset,
                    length,
                } => {
                    buffer.resize(start + length as usize, 0);
                    if !self.layer(layer)?.try_read_for(
                        &self.account,
                        offset.0,
                        &mut buffer[start..],
                    )? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    pub(super) async fn read_missing(&self, pieces: &[Piece]) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        for piece in pieces {
            match *piece {
                Piece::Zeros { length } => bytes.resize(bytes.len() + length as usize, 0),
                Piece::Stream {
                    layer,
                    offset,
                    length,
                } => {
                    let layer = self.layer(layer)?;
                    let read = layer.read_for(&self.account, offset.0, length).await?;
                    if bytes.is_empty() {
                        bytes = read;
                    } else {
                        bytes.extend_from_slice(&read);
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// Answers later, from a task.
    fn read_later(&self, pieces: Vec<Piece>, done: Done) {
        let content = self.clone();
        self.resources.runtime.spawn(async move {
            // Never closed; without a place the read would only be less bounded.
            let _place = content.places.acquire().await;
            match content.read_missing(&pieces).await {
                Ok(bytes) => done(Ok(&bytes)),
                Err(error) => done(Err(error.errno())),
            }
        });
    }
}

impl Content for ImageContent {
    fn read(&self, pieces: Vec<Piece>, done: Done) {
        self.recorder.touch(&pieces);
        // Taken out, so that `done` may read again on this thread.
        let mut buffer = BUFFER.take();
        match self.read_local(&pieces, &mut buffer) {
            Ok(true) => done(Ok(&buffer)),
            Ok(false) => self.read_later(pieces, done),
            Err(error) => {
                tracing::warn!(%error, "a read failed");
                self.resources.counters().count_failed_read();
                done(Err(error.errno()));
            }
        }
        BUFFER.set(buffer);
    }

    fn is_local(&self, pieces: &[Piece]) -> bool {
        pieces.iter().all(|piece| match *piece {
            Piece::Zeros { .. } => true,
            Piece::Stream {
                layer,
                offset,
                length,
            } => self
                .layer(layer)
                .is_ok_and(|layer| layer.is_local(offset.0, length)),
        })
    }
}
