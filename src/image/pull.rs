//! The first pull of a layer that has no index: whole, decompressed, indexed and written to the
//! cache while it arrives, and verified at the end.

use std::io;
use std::sync::Arc;

use crate::arrival::Arrivals;
use crate::document::LayerDescriptor;
use crate::error::ImageError;
use crate::index_store::IndexStore;
use brisk_blob::Blob;
use brisk_cache::{Cache, LayerKey, LayerWriter};
use brisk_indexer::{IndexOptions, StreamSink};

pub use crate::arrival::OnBytes;

/// Pulls layers whole.
#[derive(Clone)]
pub struct Puller {
    cache: Cache,
    indexes: IndexStore,
    arrivals: Arrivals,
    options: IndexOptions,
}

impl Puller {
    /// A puller into that cache and those indexes; `options` has the limits of what is pulled.
    pub fn new(cache: Cache, indexes: IndexStore, options: IndexOptions) -> Self {
        Puller {
            cache,
            indexes,
            arrivals: Arrivals::default(),
            options,
        }
    }

    /// Uncompressed bytes that a layer may have.
    pub fn layer_size_limit(&self) -> u64 {
        self.options.max_stream_size
    }

    /// Pulls a layer whole; afterwards its index is trusted and its content in the cache, as far
    /// as the budget allows.
    ///
    /// # Errors
    /// Where the bytes cannot be had, are no such tar, or do not match the layer's digest or
    /// diff ID. Nothing is kept then.
    pub async fn pull(
        &self,
        layer: &LayerDescriptor,
        blob: Arc<dyn Blob>,
        on_bytes: OnBytes,
    ) -> Result<(), ImageError> {
        let key = LayerKey::trusted(layer.digest);
        let sink = Writing {
            writer: self.cache.writer(&key)?,
        };
        let (built, sink) = self
            .arrivals
            .index(layer, blob, self.options, sink, on_bytes)
            .await?;
        for warning in &built.warnings.first {
            tracing::warn!(layer = %layer.digest, "{warning}");
        }
        let indexes = self.indexes.clone();
        // Both reach the disk before they are relied on, which takes its time.
        tokio::task::spawn_blocking(move || {
            sink.writer.commit()?;
            indexes.store(&key, &built.bytes)?;
            Ok(())
        })
        .await
        .map_err(|e| ImageError::Worker(format!("keeping a layer: {e}")))?
    }
}

/// Takes the stream into the cache's file.
struct Writing {
    writer: LayerWriter,
}

impl StreamSink for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer
            .append(bytes)
            .map(|_| ())
            .map_err(io::Error::other)
    }
}
