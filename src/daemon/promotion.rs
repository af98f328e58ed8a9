//! What follows when a layer has been compared with its diff ID: its index becomes everyone's,
//! or nobody's.

use std::io::{self, Read};

use brisk_cache::{Cache, LayerKey, Scope};
use brisk_image::index_store::IndexStore;
use brisk_image::store::ImageStore;
use brisk_indexer::closing::verify_tree;
use brisk_layer::{Closing, Layer, OnClosing};

/// Bytes of the local copy read at a time.
const STEP: u64 = 1 << 20;

/// The stores that a decision changes.
#[derive(Clone)]
pub struct Promotion {
    cache: Cache,
    indexes: IndexStore,
    images: ImageStore,
}

impl Promotion {
    /// Decisions are carried out on these stores.
    pub fn new(cache: Cache, indexes: IndexStore, images: ImageStore) -> Self {
        Promotion {
            cache,
            indexes,
            images,
        }
    }

    /// What a layer under that key calls when it is decided.
    pub fn hook(&self, key: LayerKey) -> OnClosing {
        let promotion = self.clone();
        Box::new(move |layer, closing| match closing {
            Closing::Closed => promotion.closed(&key, layer),
            Closing::Poisoned => promotion.poisoned(&key, layer),
            Closing::Unclosed => {}
        })
    }

    /// The stream has the diff ID; the tree must be that of the stream as well.
    fn closed(&self, key: &LayerKey, layer: &Layer) {
        if key.scope == Scope::Trusted {
            return;
        }
        match verify_tree(layer.index(), LocalStream { layer, position: 0 }) {
            Ok(closed) if closed.is_closed() => {
                let promoted = self
                    .cache
                    .promote(key)
                    .map_err(|e| e.to_string())
                    .and_then(|_| self.indexes.promote(key).map_err(|e| e.to_string()))
                    .and_then(|()| self.images.promote(key).map_err(|e| e.to_string()));
                if let Err(error) = promoted {
                    tracing::warn!(layer = %key.layer, error, "a closed layer stays unpromoted");
                }
            }
            Ok(closed) => {
                for difference in &closed.differences {
                    tracing::error!(layer = %key.layer, "{difference}");
                }
                layer.poison();
            }
            // Evicted meanwhile, or the disk failed: it stays as it was.
            Err(error) => tracing::warn!(layer = %key.layer, %error, "a layer cannot be closed"),
        }
    }

    fn poisoned(&self, key: &LayerKey, layer: &Layer) {
        let identity = layer.index().digest();
        tracing::error!(
            layer = %key.layer,
            index = %identity,
            "the index contradicts its layer: reads of live mounts fail, new mounts fetch anew"
        );
        let condemned = self
            .indexes
            .condemn(identity)
            .and_then(|()| self.images.remove_with(key))
            .and_then(|()| self.indexes.remove(key));
        if let Err(error) = condemned {
            tracing::error!(%error, "condemning an index");
        }
    }
}

/// The local copy of a complete layer as a reader.
struct LocalStream<'a> {
    layer: &'a Layer,
    position: u64,
}

impl Read for LocalStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.layer.file();
        let wanted = (buffer.len() as u64).min(STEP);
        let end = (self.position + wanted).min(file.stream_size());
        if end == self.position {
            return Ok(0);
        }
        let pinned = file
            .pin(self.position..end)
            .ok_or_else(|| io::Error::other("a part of the layer is not here any more"))?;
        let length = (end - self.position) as usize;
        pinned.read_at(self.position, &mut buffer[..length])?;
        self.position = end;
        Ok(length)
    }
}
