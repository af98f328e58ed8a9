//! Images copied as they are, with every manifest, blob and referrer, between registries and
//! image layouts.
//!
//! Everything is verified on the way. The image gets its name last, so that whoever finds it
//! finds all of it, and an interrupted copy leaves nothing by that name; what had arrived is
//! not sent again.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt};
use index_format::Digest;
use serde::Deserialize;

use crate::arrival::OnBytes;
use crate::destination::Destination;
use crate::document;
use crate::error::ImageError;
use crate::platform::Platform;
use brisk_registry::{BlobRef, BlobStream, ImageSource, Manifest, Uploaded};

/// Most manifests of one copy, referrers included: image indexes of a hundred platforms, each
/// with some signatures, are below it.
const MANIFEST_LIMIT: usize = 4096;
/// Image indexes within image indexes that are followed.
const DEPTH_LIMIT: usize = 4;
/// Referrers of referrers that are followed: a signature of an index of an image.
const REFERRER_DEPTH_LIMIT: usize = 3;

/// What is copied, from where to where.
pub struct Copy<'a> {
    /// The image.
    pub source: &'a ImageSource,
    /// Its name in messages.
    pub name: String,
    /// Where it goes.
    pub destination: &'a Destination,
    /// One platform of it; all of them where none is named.
    pub platform: Option<&'a Platform>,
    /// Copy what is attached to it as well.
    pub referrers: bool,
    /// Told of bytes that have been dealt with.
    pub on_bytes: OnBytes,
}

/// What a copy came to.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// Digest of the image's manifest or image index.
    pub digest: Digest,
    /// Manifests and image indexes, without referrers.
    pub manifests: usize,
    /// Referrers.
    pub referrers: usize,
    /// Blobs that were sent.
    pub sent: usize,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Blobs that were there, or that the registry took from a neighbour.
    pub spared: usize,
}

/// The parts of a manifest or image index that lead on.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    manifests: Vec<Part>,
    config: Option<Part>,
    #[serde(default)]
    layers: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Vec<String>,
}

/// What is to be copied, found before anything is written.
#[derive(Default)]
struct Plan {
    /// Manifests, each before those that it lists.
    manifests: Vec<Manifest>,
    /// Referrers, each before its own.
    referrers: Vec<Manifest>,
    blobs: BTreeMap<Digest, u64>,
    seen: HashSet<Digest>,
}

impl Copy<'_> {
    /// Copies.
    ///
    /// # Errors
    /// See [`ImageError`]; the destination then has no image of that name that it did not have.
    pub async fn run(&self) -> Result<Copied, ImageError> {
        let mut root = self.source.named_manifest().await?;
        if let Some(platform) = self.platform
            && document::is_image_index(&root.media_type)
        {
            let (digest, _) = document::select(&self.name, &root.bytes, platform)?;
            root = self.source.manifest(digest).await?;
        }
        let mut plan = Plan::default();
        plan.seen.insert(root.digest);
        self.follow(root.clone(), &mut plan).await?;
        if self.referrers {
            self.follow_referrers(&mut plan).await?;
        }
        let (sent, sent_bytes) = self.copy_blobs(&plan.blobs).await?;
        for manifest in plan.manifests.iter().rev() {
            self.destination.put_manifest(manifest).await?;
        }
        for referrer in &plan.referrers {
            self.destination.put_referrer(referrer).await?;
        }
        self.destination.name(&root).await?;
        Ok(Copied {
            digest: root.digest,
            manifests: plan.manifests.len(),
            referrers: plan.referrers.len(),
            sent,
            sent_bytes,
            spared: plan.blobs.len() - sent,
        })
    }

    /// Finds what a manifest leads to.
    async fn follow(&self, root: Manifest, plan: &mut Plan) -> Result<(), ImageError> {
        let mut level = vec![root];
        for _ in 0..=DEPTH_LIMIT {
            let mut below = Vec::new();
            for manifest in level {
                for digest in self.add(manifest, plan, false)? {
                    below.push(self.source.manifest(digest).await?);
                }
            }
            if below.is_empty() {
                return Ok(());
            }
            level = below;
        }
        Err(self.bad(format!(
            "more than {DEPTH_LIMIT} image indexes in one another"
        )))
    }

    /// Finds what is attached to the manifests.
    async fn follow_referrers(&self, plan: &mut Plan) -> Result<(), ImageError> {
        let mut subjects: Vec<Digest> = plan.manifests.iter().map(|m| m.digest).collect();
        for _ in 0..REFERRER_DEPTH_LIMIT {
            let mut found = Vec::new();
            for subject in subjects {
                for descriptor in self.source.referrers(subject, None).await? {
                    let digest = self.digest(descriptor.digest().as_ref())?;
                    if plan.seen.insert(digest) {
                        let manifest = self.source.manifest(digest).await?;
                        self.add(manifest, plan, true)?;
                        found.push(digest);
                    }
                }
            }
            subjects = found;
        }
        Ok(())
    }

    /// Takes a manifest and its blobs into the plan; gives the manifests that it lists and that
    /// are not there yet.
    fn add(
        &self,
        manifest: Manifest,
        plan: &mut Plan,
        is_referrer: bool,
    ) -> Result<Vec<Digest>, ImageError> {
        let parts: Parts = serde_json::from_slice(&manifest.bytes)
            .map_err(|error| self.bad(format!("{}: {error}", manifest.digest)))?;
        for part in parts.config.iter().chain(&parts.layers) {
            // What may not be redistributed lies where its descriptor says.
            let is_foreign =
                part.media_type.contains("nondistributable") || part.media_type.contains("foreign");
            if !is_foreign || part.urls.is_empty() {
                plan.blobs.insert(self.digest(&part.digest)?, part.size);
            }
        }
        let mut listed = Vec::new();
        for part in &parts.manifests {
            let digest = self.digest(&part.digest)?;
            let is_known = document::is_manifest(&part.media_type)
                || document::is_image_index(&part.media_type);
            if !is_known {
                return Err(self.bad(format!(
                    "it lists {digest} of type {:?}, which is no manifest",
                    part.media_type
                )));
            }
            if plan.seen.insert(digest) {
                listed.push(digest);
            }
        }
        if plan.seen.len() > MANIFEST_LIMIT {
            return Err(self.bad(format!("more than {MANIFEST_LIMIT} manifests")));
        }
        match is_referrer {
            true => plan.referrers.push(manifest),
            false => plan.manifests.push(manifest),
        }
        Ok(listed)
    }

    /// Copies the blobs; gives how many had to be sent, and their bytes.
    async fn copy_blobs(&self, blobs: &BTreeMap<Digest, u64>) -> Result<(usize, u64), ImageError> {
        let from = match self.source {
            ImageSource::Registry { reference, .. } => Some(reference.repository()),
            ImageSource::Layout { .. } => None,
        };
        let copies = blobs.iter().map(|(digest, size)| async move {
            let blob = BlobRef {
                digest: *digest,
                size: *size,
            };
            let give = |range: Range<u64>| -> BlobStream { self.source.blob_stream(blob, range) };
            let uploaded = self.destination.put_blob(blob, &give, from).await?;
            (self.on_bytes)(blob.size);
            Ok::<_, ImageError>((uploaded, blob.size))
        });
        let copied: Vec<(Uploaded, u64)> = futures_util::stream::iter(copies)
            .buffer_unordered(self.destination.parallel_blobs())
            .try_collect()
            .await?;
        let sent = copied.iter().filter(|(up, _)| *up == Uploaded::Sent);
        Ok((sent.clone().count(), sent.map(|(_, size)| size).sum()))
    }

    fn digest(&self, text: &str) -> Result<Digest, ImageError> {
        text.parse()
            .map_err(|_| self.bad(format!("digest {text:?} is not supported")))
    }

    fn bad(&self, message: String) -> ImageError {
        ImageError::Document {
            reference: self.name.clone(),
            document: "manifest",
            message,
        }
    }
}
