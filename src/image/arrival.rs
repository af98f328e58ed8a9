//! A layer's bytes in order: fetched in parallel ranges, decompressed and indexed while they
//! arrive.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Semaphore, mpsc};

use crate::document::LayerDescriptor;
use crate::error::ImageError;
use brisk_blob::Blob;
use brisk_indexer::{BuiltIndex, IndexOptions, LayerIndexer, StreamSink};

/// Bytes asked for at a time. At 100 Mbit/s and 30 ms a range of this size keeps the link for
/// ten round trips, so that the next ones are under way long before it ends.
const RANGE: u64 = 4 * 1024 * 1024;
/// Ranges of one layer under way at once.
const RANGES_AHEAD: usize = 4;
/// Ranges of all layers under way at once: with their size, the memory that a pull takes.
const RANGES_LIMIT: usize = 8;
/// Pieces that wait for the decoder of one layer.
const DECODER_QUEUE: usize = 2;

/// Told of every piece that has arrived, in compressed bytes.
pub type OnBytes = Arc<dyn Fn(u64) + Send + Sync>;

/// Shared by all layers that are fetched whole at one time: it bounds their memory.
#[derive(Clone, Debug)]
pub struct Arrivals {
    ranges: Arc<Semaphore>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Arrivals {
            ranges: Arc::new(Semaphore::new(RANGES_LIMIT)),
        }
    }
}

impl Arrivals {
    /// Fetches a layer whole, gives its stream to `sink` and builds its index; gives the sink
    /// back. The digests are compared with the manifest's and the config's.
    ///
    /// # Errors
    /// Where the bytes cannot be had, are no such tar, or do not match digest or diff ID.
    pub async fn index<S: StreamSink + Send + 'static>(
        &self,
        layer: &LayerDescriptor,
        blob: Arc<dyn Blob>,
        options: IndexOptions,
        sink: S,
        on_bytes: OnBytes,
    ) -> Result<(BuiltIndex, S), ImageError> {
        let (send, receive) = mpsc::channel(DECODER_QUEUE);
        let descriptor = layer.clone();
        let decoder =
            tokio::task::spawn_blocking(move || decode(&descriptor, options, sink, receive));
        let fetched = self.fetch(layer, blob, send, on_bytes).await;
        let decoded = decoder
            .await
            .map_err(|e| ImageError::Worker(format!("decoding a layer: {e}")))?;
        match (decoded, fetched) {
            // The decoder starved because the fetch failed: the fetch knows why.
            (Err(ImageError::Worker(_)), Err(error)) => Err(error),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(done), Ok(())) => Ok(done),
        }
    }

    async fn fetch(
        &self,
        layer: &LayerDescriptor,
        blob: Arc<dyn Blob>,
        send: mpsc::Sender<Bytes>,
        on_bytes: OnBytes,
    ) -> Result<(), ImageError> {
        let mut arriving = futures_util::stream::iter(ranges(layer.size))
            .map(|range| {
                let (blob, permits) = (blob.clone(), self.ranges.clone());
                async move {
                    let permit = permits.acquire_owned().await;
                    let bytes = blob.read_at(range).await;
                    // Held until the piece is handed on, so that memory stays bounded.
                    bytes.map(|bytes| (bytes, permit))
                }
            })
            .buffered(RANGES_AHEAD);
        while let Some(piece) = arriving.next().await {
            let (bytes, permit) = piece?;
            let length = bytes.len() as u64;
            if send.send(bytes).await.is_err() {
                return Err(ImageError::Worker("the decoder ended early".to_owned()));
            }
            drop(permit);
            on_bytes(length);
        }
        Ok(())
    }
}

fn ranges(size: u64) -> impl Iterator<Item = Range<u64>> {
    (0..size.div_ceil(RANGE)).map(move |n| n * RANGE..((n + 1) * RANGE).min(size))
}

/// Decodes and indexes what arrives; compares the digests when all has arrived.
fn decode<S: StreamSink>(
    layer: &LayerDescriptor,
    options: IndexOptions,
    mut sink: S,
    mut arriving: mpsc::Receiver<Bytes>,
) -> Result<(BuiltIndex, S), ImageError> {
    let in_layer = |source| ImageError::Layer {
        layer: layer.digest,
        source,
    };
    let mut indexer = LayerIndexer::new(layer.compression, options).map_err(in_layer)?;
    let mut received = 0;
    while let Some(bytes) = arriving.blocking_recv() {
        received += bytes.len() as u64;
        indexer.push(&bytes, &mut sink).map_err(in_layer)?;
    }
    if received < layer.size {
        return Err(ImageError::Worker("the layer did not arrive".to_owned()));
    }
    let built = indexer.finish().map_err(in_layer)?;
    let checks = [
        ("digest", built.layer_digest, layer.digest),
        ("diff ID", built.diff_id, layer.diff_id),
    ];
    for (what, found, expected) in checks {
        if found != expected {
            return Err(ImageError::Mismatch {
                layer: layer.digest,
                what,
                found,
                expected,
            });
        }
    }
    Ok((built, sink))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_a_layer_once() {
        assert_eq!(ranges(0).count(), 0);
        assert!(ranges(1).eq(std::iter::once(0..1)));
        assert!(ranges(RANGE).eq(std::iter::once(0..RANGE)));
        assert_eq!(
            ranges(RANGE + 1).collect::<Vec<_>>(),
            [0..RANGE, RANGE..RANGE + 1]
        );
    }
}
