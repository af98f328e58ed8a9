//! What follows when a layer has been compared with its diff ID: its index becomes everyone's,
//! or nobody's.

use brisk_cache::{Cache, LayerKey, Scope};
use brisk_image::index_store::IndexStore;
use brisk_image::store::ImageStore;
use brisk_indexer::closing;
use brisk_indexer::tar::TarLimits;
use brisk_layer::{Closing, Comparison, Layer, LayerOwner};
use index_format::{Digest, Index};

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

    /// The owner of a layer under that key.
    pub fn owner(&self, key: LayerKey) -> Box<dyn LayerOwner> {
        Box::new(Owner {
            promotion: self.clone(),
            key,
        })
    }

    fn closed(&self, key: &LayerKey) {
        if key.scope == Scope::Trusted {
            return;
        }
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

/// A layer's key with the stores that its decision changes.
struct Owner {
    promotion: Promotion,
    key: LayerKey,
}

impl LayerOwner for Owner {
    fn compare(&self, index: &Index) -> Result<Box<dyn Comparison>, String> {
        let closing = closing::Closing::start(index, TarLimits::default());
        Ok(Box::new(TreeComparison {
            layer: self.key.layer,
            closing: closing.map_err(|error| error.to_string())?,
        }))
    }

    fn decided(&self, layer: &Layer, closing: Closing) {
        match closing {
            Closing::Closed => self.promotion.closed(&self.key),
            Closing::Poisoned => self.promotion.poisoned(&self.key, layer),
            Closing::Unclosed => {}
        }
    }
}

/// The tree that an index shows, held against the layer's tar.
struct TreeComparison {
    layer: Digest,
    closing: closing::Closing,
}

impl Comparison for TreeComparison {
    fn push(&mut self, stream: &[u8]) -> Result<(), String> {
        self.closing.push(stream).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> Result<bool, String> {
        let closed = self.closing.finish().map_err(|error| error.to_string())?;
        for difference in &closed.differences {
            tracing::error!(layer = %self.layer, "{difference}");
        }
        Ok(closed.is_closed())
    }
}
