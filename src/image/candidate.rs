//! Indexes that the registry offers for an image's layers: found, read, and held against the
//! manifest before anything believes them.

use index_format::wire;
use index_format::{Digest, Index, IndexKind, Limits, SectionId};

use crate::artifact::{self, LayerParts, Table};
use crate::document::LayerDescriptor;
use crate::refusal::{Refusal, RefusalKind};
use crate::sign::statement::{SIGNATURES_ANNOTATION, from_annotation};
use crate::sign::{PublicKey, Signature, Statement};
use crate::store::ArtifactPlace;
use brisk_codec::MAX_CHUNK_LENGTH;
use brisk_registry::{BlobRef, Descriptor, ImageSource};

/// Most artifacts of one image that are read: whoever can push there could attach any number,
/// and each costs a range request.
const ARTIFACT_LIMIT: usize = 4;
/// Most artifacts of one image that are looked at as they stand in the list of referrers, which
/// costs no request: a signed one may stand behind others.
const LISTED_LIMIT: usize = 64;

/// An index that fits a layer, validated.
pub struct Candidate {
    /// The index file, hot sections only.
    pub bytes: Vec<u8>,
    /// Its identity.
    pub identity: Digest,
    /// Uncompressed bytes of its layer.
    pub stream_size: u64,
    /// Where its cold sections are.
    pub place: ArtifactPlace,
    /// The key that has signed it for this image, by its name.
    pub signed_by: Option<String>,
}

/// What the referrers offered for each layer, in order: a candidate, or why there is none.
pub type Offers = Vec<Result<Candidate, Refusal>>;

/// What the layers of an image need of an index, and whose word is taken for it.
pub struct Wanted<'a> {
    /// Digest of the image manifest.
    pub image: Digest,
    /// The layers from the bottom up.
    pub layers: &'a [LayerDescriptor],
    /// Which of them need one.
    pub missing: Vec<bool>,
    /// A layer with more uncompressed bytes is not accepted.
    pub layer_size_limit: u64,
    /// Keys that are believed.
    pub keys: &'a [PublicKey],
    /// Take what none of them has signed as well.
    pub unsigned: bool,
}

impl Wanted<'_> {
    /// No index for any layer, for that reason.
    pub fn none(&self, reason: &Refusal) -> Offers {
        self.layers.iter().map(|_| Err(reason.clone())).collect()
    }

    fn signer(
        &self,
        row: &LayerParts,
        layer: &LayerDescriptor,
        by: &[Signature],
    ) -> Option<PublicKey> {
        let statement = Statement {
            image: self.image,
            layer: layer.digest,
            diff_id: layer.diff_id,
            index: row.index.parse().ok()?,
        };
        statement.signed_by(by, self.keys)
    }
}

/// Reads the index artifacts that `referrers` name, for the layers that need one: first those
/// that a believed key has signed, then the others, where they are taken.
///
/// Never an error: what is missing, unreadable or does not fit is a reason in the layer's place,
/// and the next source is used.
pub async fn collect(
    source: &ImageSource,
    referrers: &[Descriptor],
    wanted: &Wanted<'_>,
) -> Offers {
    let mut offers = wanted.none(&no_index());
    let mut artifacts = Vec::new();
    let mut asked = 0;
    for referrer in referrers.iter().take(LISTED_LIMIT) {
        let annotated = Annotated::of_descriptor(referrer);
        if annotated.is_none() {
            asked += 1;
        }
        if asked > ARTIFACT_LIMIT {
            break;
        }
        let parsed = match annotated {
            Some(annotated) => annotated.parse(),
            None => match Annotated::of_manifest(source, referrer).await {
                Ok(annotated) => annotated.parse(),
                Err(reason) => Err(reason),
            },
        };
        match parsed {
            Ok(parsed) => artifacts.push(parsed),
            Err(reason) => {
                let reason = format!("artifact {}: {reason}", referrer.digest());
                refuse(&mut offers, &wanted.missing, &reason);
            }
        }
    }
    for (table, _) in &artifacts {
        for (layer, offer) in wanted.layers.iter().zip(&mut offers) {
            if let Some(why) = table.stream_only(layer.digest) {
                *offer = Err(RefusalKind::StreamOnly.because(format!("stream-only: {why}")));
            }
        }
    }
    let passes = [(!wanted.keys.is_empty(), true), (wanted.unsigned, false)];
    for must_be_signed in passes
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, must)| must)
    {
        let mut reads = 0;
        for (table, signatures) in &artifacts {
            let rows = fitting(table, signatures, must_be_signed, &offers, wanted);
            if !rows.is_empty() && reads < ARTIFACT_LIMIT {
                reads += 1;
                read_hot(source, table, rows, wanted, &mut offers).await;
            }
        }
    }
    offers
}

/// Reads the indexes that the image's own manifest names, for the layers that need one.
///
/// Never an error, as [`collect`].
pub async fn bound(source: &ImageSource, table: &str, wanted: &Wanted<'_>) -> Offers {
    let table = match Table::parse(table) {
        Ok(table) => table,
        Err(error) => {
            let reason = format!("the manifest's own table: {error}");
            return wanted.none(&RefusalKind::Unusable.because(reason));
        }
    };
    let nothing = RefusalKind::NoIndex.because("the image's manifest names no index for it");
    let mut offers = wanted.none(&nothing);
    let rows = fitting(&table, &[], false, &offers, wanted);
    read_hot(source, &table, rows, wanted, &mut offers).await;
    offers
}

/// A row of a table that is to be read.
struct Row<'a> {
    layer: usize,
    parts: &'a LayerParts,
    signed_by: Option<PublicKey>,
}

/// The rows of a table for layers that still need an index.
fn fitting<'a>(
    table: &'a Table,
    signatures: &[Signature],
    must_be_signed: bool,
    offers: &Offers,
    wanted: &Wanted<'_>,
) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (number, layer) in wanted.layers.iter().enumerate() {
        if !wanted.missing[number] || offers[number].is_ok() {
            continue;
        }
        let Some(parts) = table.layer(layer.digest) else {
            continue;
        };
        let signed_by = wanted.signer(parts, layer, signatures);
        if signed_by.is_some() || !must_be_signed {
            rows.push(Row {
                layer: number,
                parts,
                signed_by,
            });
        }
    }
    rows
}

fn refuse(offers: &mut Offers, wanted: &[bool], reason: &str) {
    for (offer, _) in offers
        .iter_mut()
        .zip(wanted)
        .filter(|(o, wanted)| **wanted && o.is_err())
    {
        *offer = Err(RefusalKind::Unusable.because(reason));
    }
}

/// Nobody offers an index.
pub(crate) fn no_index() -> Refusal {
    RefusalKind::NoIndex.because("no index is attached to the image")
}

/// What an artifact says of itself in its annotations.
struct Annotated {
    table: String,
    signatures: Option<String>,
}

impl Annotated {
    /// As the list of referrers repeats it; none where it does not.
    fn of_descriptor(referrer: &Descriptor) -> Option<Self> {
        let annotations = referrer.annotations().as_ref()?;
        Some(Self {
            table: annotations.get(artifact::TABLE_ANNOTATION)?.clone(),
            signatures: annotations.get(SIGNATURES_ANNOTATION).cloned(),
        })
    }

    /// As the artifact's manifest says it.
    async fn of_manifest(source: &ImageSource, referrer: &Descriptor) -> Result<Self, String> {
        let digest = referrer.digest().to_string().parse::<Digest>();
        let digest = digest.map_err(|e| e.to_string())?;
        let manifest = source.manifest(digest).await.map_err(|e| e.to_string())?;
        let document: serde_json::Value =
            serde_json::from_slice(&manifest.bytes).map_err(|e| e.to_string())?;
        let annotation = |name: &str| document["annotations"][name].as_str().map(str::to_owned);
        Ok(Self {
            table: annotation(artifact::TABLE_ANNOTATION).ok_or("it has no table of ranges")?,
            signatures: annotation(SIGNATURES_ANNOTATION),
        })
    }

    fn parse(self) -> Result<(Table, Vec<Signature>), String> {
        let table = Table::parse(&self.table).map_err(|e| e.to_string())?;
        Ok((table, from_annotation(self.signatures.as_deref())))
    }
}

/// Reads the hot parts of these rows in one range and fills their layers' places.
async fn read_hot(
    source: &ImageSource,
    table: &Table,
    rows: Vec<Row<'_>>,
    wanted: &Wanted<'_>,
    offers: &mut Offers,
) {
    let hot = || rows.iter().map(|row| row.parts.hot);
    let Some(start) = hot().map(|hot| hot.offset).min() else {
        return;
    };
    let end = hot().map(|hot| hot.offset + hot.length).max();
    let range = start..end.unwrap_or(start);
    let fetched = match table.blob.parse() {
        Ok(digest) => {
            let size = table.size;
            let blob = BlobRef { digest, size };
            let read = source.blob_range(blob, range).await;
            read.map_err(|e| e.to_string())
        }
        Err(_) => Err(format!("{} is no digest", table.blob)),
    };
    for row in rows {
        let (parts, layer) = (row.parts, &wanted.layers[row.layer]);
        let limit = wanted.layer_size_limit;
        let taken = fetched
            .as_ref()
            .map_err(|reason| RefusalKind::Unusable.because(reason))
            .and_then(|bytes| {
                let hot = hot_part(bytes, parts, start)
                    .map_err(|reason| RefusalKind::Unusable.because(reason))?;
                accept(hot, parts, table, layer).map_err(|reason| Refusal {
                    words: format!("index {}: {reason}", parts.index),
                    ..reason
                })
            });
        offers[row.layer] = taken.and_then(|found| match found.stream_size {
            size if size > limit => Err(RefusalKind::TooLong.because(format!(
                "the layer has {size} bytes, more than the limit of {limit}"
            ))),
            _ => Ok(Candidate {
                signed_by: row.signed_by.map(PublicKey::id),
                ..found
            }),
        });
    }
}

/// The hot part of one layer in what was fetched from `start` on.
fn hot_part<'a>(bytes: &'a [u8], row: &LayerParts, start: u64) -> Result<&'a [u8], String> {
    let from = usize::try_from(row.hot.offset - start).map_err(|e| e.to_string())?;
    let length = usize::try_from(row.hot.length).map_err(|e| e.to_string())?;
    from.checked_add(length)
        .and_then(|to| bytes.get(from..to))
        .ok_or_else(|| "the range is shorter than the table says".to_owned())
}

/// Decodes and validates one index and holds it against the layer that it is for.
fn accept(
    hot: &[u8],
    row: &LayerParts,
    table: &Table,
    layer: &LayerDescriptor,
) -> Result<Candidate, Refusal> {
    let unusable = |words: String| RefusalKind::Unusable.because(words);
    let bytes = wire::decode_hot(hot, &Limits::default()).map_err(|e| unusable(e.to_string()))?;
    let index = Index::open(bytes.clone()).map_err(|e| unusable(e.to_string()))?;
    index.validate().map_err(|e| unusable(e.to_string()))?;
    let identity = index.digest();
    if identity.to_string() != row.index {
        return Err(unusable(format!("its identity is {identity}")));
    }
    if index.kind() != IndexKind::Layer {
        return Err(unusable("it is not the index of a layer".to_owned()));
    }
    let facts = [
        (
            "layer",
            index.layer_digest().to_string(),
            layer.digest.to_string(),
        ),
        (
            "diff ID",
            index.diff_id().to_string(),
            layer.diff_id.to_string(),
        ),
        (
            "compressed size",
            index.compressed_size().to_string(),
            layer.size.to_string(),
        ),
        (
            "compression",
            format!("{:?}", index.compression()),
            format!("{:?}", layer.compression),
        ),
    ];
    for (what, has, expected) in facts {
        if has != expected {
            return Err(unusable(format!(
                "its {what} is {has}, the image has {expected}"
            )));
        }
    }
    for number in 0..index.chunk_count() {
        let chunk = index.chunk(number).map_err(|e| unusable(e.to_string()))?;
        if chunk.stream.end - chunk.stream.start > MAX_CHUNK_LENGTH {
            return Err(RefusalKind::StreamOnly.because("the layer can only be streamed whole"));
        }
    }
    let checkpoints = row
        .cold(SectionId::Checkpoints)
        .map(|part| (part.offset, part.length));
    let place = ArtifactPlace {
        blob: table.blob.clone(),
        size: table.size,
        repository: None,
        checkpoints,
    };
    Ok(Candidate {
        bytes,
        identity,
        stream_size: index.stream_size(),
        place,
        signed_by: None,
    })
}
