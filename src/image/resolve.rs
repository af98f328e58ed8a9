//! From a reference to a readable image: documents, an index for every layer, one merged tree.

use std::sync::Arc;

use futures_util::future::try_join_all;
use index_format::{Digest, Index};
use oci_spec::image::ImageConfiguration;

use crate::artifact;
use crate::candidate::{self, Candidate, Wanted};
use crate::document::{self, LayerDescriptor};
use crate::documents::{self, Documents};
use crate::error::ImageError;
use crate::index_store::IndexStore;
use crate::pack::{self, PackPlace};
use crate::pull::{OnBytes, Puller};
use crate::query::{Query, source_blob};
use crate::refusal::{Refusal, RefusalCounts, RefusalKind};
use crate::store::{ImageRecord, ImageStore, LayerDecision};
use crate::trust::{Policy, Source};
use brisk_cache::{LayerKey, Scope};
use brisk_registry::{BlobRef, Descriptor, ImageSource};

/// What resolving an image needs of its root.
#[derive(Clone)]
pub struct Resolver {
    /// Known images, manifests and configs.
    pub images: ImageStore,
    /// Indexes.
    pub indexes: IndexStore,
    /// Pulls layers that have no index.
    pub puller: Puller,
    /// Layers that were pulled whole for want of a usable index.
    pub refusals: Arc<RefusalCounts>,
}

/// Told of what goes on while an image is resolved.
pub trait Observer: Send + Sync {
    /// Something that the user should know.
    fn warn(&self, message: String);
    /// Manifest, config and the list of indexes are known.
    fn described(&self) {}
    /// A layer of `bytes` is pulled whole.
    fn pulling(&self, bytes: u64);
    /// Some of its bytes have arrived.
    fn pulled(&self, bytes: u64);
    /// The image is known, and which packs are attached to it; its indexes are still to come.
    fn found(&self, documents: &Documents, packs: &[PackPlace]) {
        let _ = (documents, packs);
    }
}

/// Tells nobody: what is merged again was told of before.
struct Unheard;

impl Observer for Unheard {
    fn warn(&self, _: String) {}
    fn pulling(&self, _: u64) {}
    fn pulled(&self, _: u64) {}
}

/// An image with an index for every layer.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// What the root keeps of it.
    pub record: ImageRecord,
    /// The config's bytes.
    pub config_bytes: Vec<u8>,
    /// The config.
    pub config: ImageConfiguration,
    /// The layers from the bottom up.
    pub layers: Vec<ResolvedLayer>,
    /// The merged tree.
    pub merged: Index,
    /// True where the registry has been asked for it just now.
    pub is_new: bool,
}

/// The referrers of an image.
pub(crate) struct Attached {
    /// Those of all types in its own repository.
    own: Vec<Descriptor>,
    /// Those with indexes in the one that the query names beside it.
    elsewhere: Vec<Descriptor>,
}

impl Attached {
    /// Those of them that carry indexes.
    pub(crate) fn of_indexes(mut self) -> Self {
        self.own.retain(|referrer| {
            let kind = referrer.artifact_type().as_ref();
            kind.is_some_and(|kind| kind.as_ref() == artifact::ARTIFACT_TYPE)
        });
        self
    }

    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.elsewhere.is_empty()
    }
}

/// A layer with its index.
#[derive(Clone, Debug)]
pub struct ResolvedLayer {
    /// What the manifest and config say of it.
    pub descriptor: LayerDescriptor,
    /// Whose content it is.
    pub key: LayerKey,
    /// Its index.
    pub index: Index,
    /// Where the index came from.
    pub decision: LayerDecision,
}

impl Resolver {
    /// Resolves an image: from what the root knows where that is enough, else with the registry's
    /// help; layers for which nobody has an acceptable index are pulled whole.
    ///
    /// # Errors
    /// See [`ImageError`]; nothing half-done is kept.
    pub async fn resolve(
        &self,
        query: &Query,
        observer: &Arc<dyn Observer>,
    ) -> Result<ResolvedImage, ImageError> {
        if !query.refresh
            && let Some(known) = self.known(query)
        {
            return Ok(known);
        }
        let (documents, referrers) = self.documents(query).await?;
        let packs = pack::places(&referrers.own);
        observer.found(&documents, &packs);
        observer.described();
        let referrers = referrers.of_indexes();
        let layers = self
            .layers(query, &documents, &referrers, true, observer)
            .await?;
        let layers = layers
            .into_iter()
            .map(|l| l.map_err(|refusal| ImageError::Worker(refusal.words)));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let merged = self.merge(&query.reference, &layers, observer.as_ref())?;
        let record = record(query, &documents, &layers, &merged, packs);
        self.images.put(&record)?;
        Ok(ResolvedImage {
            record,
            config_bytes: documents.config_bytes,
            config: documents.config,
            layers,
            merged,
            is_new: true,
        })
    }

    /// What resolving would find, without pulling any layer: for each layer its index, or why it
    /// has none.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn inspect(
        &self,
        query: &Query,
        observer: &Arc<dyn Observer>,
    ) -> Result<
        (
            Digest,
            Vec<(LayerDescriptor, Result<ResolvedLayer, Refusal>)>,
        ),
        ImageError,
    > {
        if let Some(known) = self.known(query) {
            let manifest = parse(&query.reference, &known.record.manifest)?;
            let layers = known
                .layers
                .into_iter()
                .map(|l| (l.descriptor.clone(), Ok(l)));
            return Ok((manifest, layers.collect()));
        }
        let (documents, referrers) = self.documents(query).await?;
        let referrers = referrers.of_indexes();
        let layers = self
            .layers(query, &documents, &referrers, false, observer)
            .await?;
        Ok((
            documents.manifest,
            documents.layers.into_iter().zip(layers).collect(),
        ))
    }

    /// The image as the root knows it, where everything that a mount needs is still there and
    /// the policy accepts it.
    pub fn known(&self, query: &Query) -> Option<ResolvedImage> {
        let record = self
            .images
            .find(&query.reference, &query.platform.to_string())?;
        if query
            .manifest
            .is_some_and(|d| d.to_string() != record.manifest)
        {
            return None;
        }
        let manifest_bytes = self.images.blob(record.manifest.parse().ok()?)?;
        let config_bytes = self.images.blob(record.config.parse().ok()?)?;
        let manifest = document::parse_manifest(&query.reference, &manifest_bytes).ok()?;
        let (config, descriptors) =
            document::parse_config(&query.reference, &manifest, &config_bytes).ok()?;
        let mut layers = Vec::new();
        for (descriptor, decision) in descriptors.into_iter().zip(&record.layers) {
            let key = decision.key().ok()?;
            let is_trusted = key.scope == Scope::Trusted;
            let is_believed =
                query.policy != Policy::Strict || decision.is_vouched_for(&query.keys);
            if !is_trusted && (query.trusted_only || !is_believed) {
                return None;
            }
            let index = self.indexes.load(&key)?;
            if index.digest().to_string() != decision.index || key.layer != descriptor.digest {
                return None;
            }
            layers.push(ResolvedLayer {
                descriptor,
                key,
                index,
                decision: decision.clone(),
            });
        }
        if layers.len() != manifest.layers.len() {
            return None;
        }
        let digest = record.merged.parse().ok()?;
        let merged = self.indexes.load_merged(digest).or_else(|| {
            // It follows from the layers' indexes.
            let merged = self.merge(&query.reference, &layers, &Unheard).ok()?;
            (merged.digest() == digest).then_some(merged)
        })?;
        Some(ResolvedImage {
            record,
            config_bytes,
            config,
            layers,
            merged,
            is_new: false,
        })
    }

    /// Manifest, config and the referrers; the last two travel together.
    pub(crate) async fn documents(
        &self,
        query: &Query,
    ) -> Result<(Documents, Attached), ImageError> {
        let manifest = documents::manifest(query).await?;
        let config = documents::with_config(&self.images, query, &manifest);
        let own = attached(&query.source, manifest.digest, None);
        let elsewhere = async {
            match &query.elsewhere {
                Some(source) => {
                    let kind = Some(artifact::ARTIFACT_TYPE);
                    attached(source, manifest.digest, kind).await
                }
                None => Vec::new(),
            }
        };
        let (documents, own, elsewhere) = tokio::join!(config, own, elsewhere);
        let documents = documents?;
        self.images.put_blob(manifest.digest, &manifest.bytes)?;
        self.images
            .put_blob(documents.config_digest, &documents.config_bytes)?;
        Ok((documents, Attached { own, elsewhere }))
    }

    /// An index for every layer, by the order of sources; with `pull`, those that have none are
    /// pulled whole, else their place says why.
    pub(crate) async fn layers(
        &self,
        query: &Query,
        documents: &Documents,
        referrers: &Attached,
        pull: bool,
        observer: &Arc<dyn Observer>,
    ) -> Result<Vec<Result<ResolvedLayer, Refusal>>, ImageError> {
        let local: Vec<Option<ResolvedLayer>> = documents
            .layers
            .iter()
            .map(|layer| self.local(layer))
            .collect();
        let mut wanted = Wanted {
            image: documents.manifest,
            layers: &documents.layers,
            missing: local.iter().map(Option::is_none).collect(),
            layer_size_limit: self.puller.layer_size_limit(),
            keys: &query.keys,
            unsigned: query.policy == Policy::Registry,
        };
        let mut bound = Vec::new().into_iter();
        if let Some(table) = &documents.bound
            && !query.trusted_only
            && wanted.missing.contains(&true)
        {
            let offers = candidate::bound(&query.source, table, &wanted).await;
            for (missing, offer) in wanted.missing.iter_mut().zip(&offers) {
                *missing &= offer.is_err();
            }
            bound = offers.into_iter();
        }
        let mut offers = match wanted.missing.contains(&true) {
            false => Vec::new(),
            true if query.trusted_only
                || query.policy == Policy::Strict && query.keys.is_empty() =>
            {
                wanted.none(&refused_by_policy(query, referrers))
            }
            true => candidate::collect(&query.source, &referrers.own, &wanted).await,
        };
        if let Some(source) = &query.elsewhere
            && !query.trusted_only
        {
            let own = offers.iter().map(Result::is_err);
            let missing = wanted.missing.iter().zip(own);
            wanted.missing = missing.map(|(missing, own)| *missing && own).collect();
            let found = match wanted.keys.is_empty() && !wanted.unsigned {
                true => Vec::new(),
                false => candidate::collect(source, &referrers.elsewhere, &wanted).await,
            };
            for (offer, found) in offers.iter_mut().zip(found) {
                if let Ok(mut found) = found {
                    found.place.repository = Some(source.scope());
                    *offer = Ok(found);
                }
            }
        }
        if query.policy == Policy::Strict {
            // What is attached and not signed was not looked at.
            let refused = refused_by_policy(query, referrers);
            for offer in offers.iter_mut().filter(|_| !referrers.is_empty()) {
                if offer
                    .as_ref()
                    .is_err_and(|r| r.kind == RefusalKind::NoIndex)
                {
                    *offer = Err(refused.clone());
                }
            }
        }
        let mut offers = offers.into_iter();
        let mut found = Vec::new();
        for (layer, local) in documents.layers.iter().zip(local) {
            let offer = match (bound.next(), offers.next()) {
                (Some(Ok(bound)), _) => Some(Ok((bound, Source::Bound))),
                (Some(Err(reason)), Some(Err(other))) => Some(Err(Refusal {
                    words: format!("{reason}; {other}"),
                    ..other
                })),
                (_, offer) => offer.map(|offer| offer.map(|found| (found, Source::Referrer))),
            };
            let problem = self.local_problem(query, layer);
            if let Some(problem) = &problem {
                observer.warn(format!("layer {}: {problem}", layer.digest));
            }
            let offer =
                offer.map(|offer| offer.map_err(|reason| prefixed(problem.clone(), reason)));
            found.push(match (local, offer) {
                (Some(local), _) => Ok(local),
                (None, Some(Ok((candidate, source)))) => {
                    self.adopt(query, layer, candidate, source, problem)?
                }
                (None, Some(Err(reason))) => Err(reason),
                (None, None) => Err(RefusalKind::NoIndex.because("no source was asked")),
            });
        }
        for (layer, reason) in documents.layers.iter().zip(&found).filter_map(|(l, f)| {
            f.as_ref()
                .err()
                .filter(|_| !referrers.is_empty())
                .map(|reason| (l, reason))
        }) {
            let digest = layer.digest;
            observer.warn(format!(
                "layer {digest} has no usable index: {reason}; it is pulled whole"
            ));
        }
        if pull {
            self.pull_missing(query, documents, &mut found, observer)
                .await?;
        }
        Ok(found)
    }

    /// The trusted index of this root, where there is one that fits.
    fn local(&self, layer: &LayerDescriptor) -> Option<ResolvedLayer> {
        let key = LayerKey::trusted(layer.digest);
        let index = self.indexes.load(&key)?;
        if index.diff_id() != layer.diff_id {
            return None;
        }
        let decision = LayerDecision {
            layer: layer.digest.to_string(),
            source: Source::Local,
            repository: None,
            index: index.digest().to_string(),
            signed_by: None,
            reason: None,
            artifact: None,
        };
        Some(ResolvedLayer {
            descriptor: layer.clone(),
            key,
            index,
            decision,
        })
    }

    /// What is wrong with the index of a layer that this root has: the trusted one, or the one
    /// that the image was started with before.
    fn local_problem(&self, query: &Query, layer: &LayerDescriptor) -> Option<String> {
        let trusted = LayerKey::trusted(layer.digest);
        if let Some(index) = self.indexes.load(&trusted) {
            let (has, expected) = (index.diff_id(), layer.diff_id);
            return (has != expected).then(|| {
                let path = self.indexes.path(&trusted);
                let path = path.display();
                format!("the local index {path} has diff ID {has}, the image has {expected}")
            });
        }
        self.indexes.problem(&trusted).or_else(|| {
            let platform = query.platform.to_string();
            let record = self.images.find(&query.reference, &platform)?;
            let keys = record.layers.iter().filter_map(|known| known.key().ok());
            let mut of_layer = keys.filter(|key| key.layer == layer.digest);
            of_layer.find_map(|key| self.indexes.problem(&key))
        })
    }

    /// Keeps a candidate under the repository's own scope, and what was wrong with the index
    /// whose place it takes.
    fn adopt(
        &self,
        query: &Query,
        layer: &LayerDescriptor,
        candidate: Candidate,
        source: Source,
        problem: Option<String>,
    ) -> Result<Result<ResolvedLayer, Refusal>, ImageError> {
        if self.indexes.is_condemned(candidate.identity) {
            let identity = candidate.identity;
            return Ok(Err(RefusalKind::Contradicts.because(format!(
                "index {identity} was found to contradict its layer"
            ))));
        }
        let repository = query.source.scope();
        let scope = Scope::Untrusted {
            repository: repository.clone(),
            index: candidate.identity,
        };
        let key = LayerKey {
            scope,
            layer: layer.digest,
        };
        let index = self.indexes.store(&key, &candidate.bytes)?;
        let decision = LayerDecision {
            layer: layer.digest.to_string(),
            source,
            repository: Some(repository),
            index: candidate.identity.to_string(),
            signed_by: candidate.signed_by,
            reason: problem,
            artifact: Some(candidate.place),
        };
        Ok(Ok(ResolvedLayer {
            descriptor: layer.clone(),
            key,
            index,
            decision,
        }))
    }

    async fn pull_missing(
        &self,
        query: &Query,
        documents: &Documents,
        found: &mut [Result<ResolvedLayer, Refusal>],
        observer: &Arc<dyn Observer>,
    ) -> Result<(), ImageError> {
        // A layer can stand in an image twice; it is pulled once.
        let mut missing: Vec<&LayerDescriptor> = Vec::new();
        for (layer, found) in documents.layers.iter().zip(found.iter()) {
            if found.is_err() && missing.iter().all(|m| m.digest != layer.digest) {
                missing.push(layer);
            }
        }
        missing
            .iter()
            .for_each(|layer| observer.pulling(layer.size));
        let pulls = missing.iter().map(|layer| {
            let observer = observer.clone();
            let on_bytes: OnBytes = Arc::new(move |bytes| observer.pulled(bytes));
            async move {
                let blob = BlobRef {
                    digest: layer.digest,
                    size: layer.size,
                };
                let blob = source_blob(&query.source, blob)?;
                self.puller.pull(layer, blob, on_bytes).await
            }
        });
        try_join_all(pulls).await?;
        for (layer, found) in documents.layers.iter().zip(found.iter_mut()) {
            let Err(reason) = found else { continue };
            self.refusals.add(reason.kind);
            let mut pulled = self.local(layer).ok_or_else(|| {
                ImageError::Worker(format!("the index of layer {} is gone again", layer.digest))
            })?;
            pulled.decision.source = Source::Built;
            pulled.decision.reason = Some(reason.words.clone());
            *found = Ok(pulled);
        }
        Ok(())
    }

    fn merge(
        &self,
        reference: &str,
        layers: &[ResolvedLayer],
        observer: &dyn Observer,
    ) -> Result<Index, ImageError> {
        let indexes: Vec<Index> = layers.iter().map(|layer| layer.index.clone()).collect();
        self.merge_indexes(reference, &indexes, observer)
    }
}

/// The referrers of an image at one place, in one answer. A registry that cannot list them has
/// none to offer; a start never fails for it.
async fn attached(source: &ImageSource, manifest: Digest, kind: Option<&str>) -> Vec<Descriptor> {
    let found = source.referrers(manifest, kind);
    found.await.unwrap_or_else(|error| {
        tracing::warn!(source = source.scope(), %error, "referrers cannot be listed");
        Vec::new()
    })
}

/// Puts what is wrong with the local index before why there is no other.
fn prefixed(problem: Option<String>, reason: Refusal) -> Refusal {
    match problem {
        Some(problem) => Refusal {
            words: format!("{problem}; {reason}"),
            ..reason
        },
        None => reason,
    }
}

/// Why the strict policy takes no index that nobody vouches for.
fn refused_by_policy(query: &Query, referrers: &Attached) -> Refusal {
    if referrers.is_empty() {
        return candidate::no_index();
    }
    let scope = query.source.scope();
    let signed = match query.keys.is_empty() {
        true => "",
        false => " and no configured key has signed",
    };
    RefusalKind::Policy.because(format!(
        "policy strict refuses the index attached in {scope}, which the image's digest does not \
         bind{signed} (use a reference by tag, or set trust.repositories.\"{scope}\" = \
         \"registry\", or have it signed by a key of trust.keys.\"{scope}\", or bound by `brisk \
         index push --bind`)"
    ))
}

fn record(
    query: &Query,
    documents: &Documents,
    layers: &[ResolvedLayer],
    merged: &Index,
    packs: Vec<PackPlace>,
) -> ImageRecord {
    ImageRecord {
        reference: query.reference.clone(),
        platform: query.platform.to_string(),
        manifest: documents.manifest.to_string(),
        manifest_type: documents.manifest_type.clone(),
        config: documents.config_digest.to_string(),
        policy: query.policy,
        merged: merged.digest().to_string(),
        layers: layers.iter().map(|layer| layer.decision.clone()).collect(),
        size: documents.layers.iter().map(|layer| layer.size).sum(),
        packs,
    }
}

fn parse(reference: &str, digest: &str) -> Result<Digest, ImageError> {
    digest.parse().map_err(|_| ImageError::Document {
        reference: reference.to_owned(),
        document: "digest",
        message: format!("{digest:?} is not a sha256 digest"),
    })
}
