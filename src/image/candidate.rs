//! Indexes that the registry offers for an image's layers: found, read, and held against the
//! manifest before anything believes them.

use index_format::wire;
use index_format::{Digest, Index, IndexKind, Limits, SectionId};

use crate::artifact::{self, LayerParts, Table};
use crate::document::LayerDescriptor;
use crate::refusal::{Refusal, RefusalKind};
use crate::store::ArtifactPlace;
use brisk_codec::MAX_CHUNK_LENGTH;
use brisk_registry::{BlobRef, Descriptor, ImageSource};

/// Most artifacts of one image that are looked at: whoever can push there could attach any
/// number, and each costs a range request.
const ARTIFACT_LIMIT: usize = 4;

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
}

/// What the referrers offered for each layer, in order: a candidate, or why there is none.
pub type Offers = Vec<Result<Candidate, Refusal>>;

/// Reads the index artifacts that `referrers` name, for the layers that `wanted` asks for.
///
/// An index whose layer has more than `layer_size_limit` uncompressed bytes is not accepted.
///
/// Never an error: what is missing, unreadable or does not fit is a reason in the layer's place,
/// and the next source is used.
pub async fn collect(
    source: &ImageSource,
    referrers: &[Descriptor],
    layers: &[LayerDescriptor],
    wanted: &[bool],
    layer_size_limit: u64,
) -> Offers {
    let mut offers: Offers = layers.iter().map(|_| Err(no_index())).collect();
    for referrer in referrers.iter().take(ARTIFACT_LIMIT) {
        let table = match table(source, referrer).await {
            Ok(table) => table,
            Err(reason) => {
                refuse(
                    &mut offers,
                    wanted,
                    &format!("artifact {}: {reason}", referrer.digest()),
                );
                continue;
            }
        };
        for (layer, offer) in layers.iter().zip(&mut offers) {
            if offer.is_err()
                && let Some(why) = table.stream_only(layer.digest)
            {
                *offer = Err(RefusalKind::StreamOnly.because(format!("stream-only: {why}")));
            }
        }
        let missing: Vec<usize> = (0..layers.len())
            .filter(|n| {
                wanted[*n] && offers[*n].is_err() && table.layer(layers[*n].digest).is_some()
            })
            .collect();
        read_hot(source, &table, layers, &missing, &mut offers).await;
        for offer in &mut offers {
            let size = offer.as_ref().map_or(0, |found| found.stream_size);
            if size > layer_size_limit {
                *offer = Err(RefusalKind::TooLong.because(format!(
                    "the layer has {size} bytes, more than the limit of {layer_size_limit}"
                )));
            }
        }
    }
    offers
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

/// The table of an artifact: from the descriptor's annotations, else from its manifest.
async fn table(source: &ImageSource, referrer: &Descriptor) -> Result<Table, String> {
    let annotated = referrer
        .annotations()
        .as_ref()
        .and_then(|annotations| annotations.get(artifact::TABLE_ANNOTATION).cloned());
    let text = match annotated {
        Some(text) => text,
        None => {
            let digest = referrer.digest().to_string().parse::<Digest>();
            let digest = digest.map_err(|e| e.to_string())?;
            let manifest = source.manifest(digest).await.map_err(|e| e.to_string())?;
            let document: serde_json::Value =
                serde_json::from_slice(&manifest.bytes).map_err(|e| e.to_string())?;
            document["annotations"][artifact::TABLE_ANNOTATION]
                .as_str()
                .ok_or("it has no table of ranges")?
                .to_owned()
        }
    };
    Table::parse(&text).map_err(|e| e.to_string())
}

/// Reads the hot parts of the missing layers in one range and fills their places.
async fn read_hot(
    source: &ImageSource,
    table: &Table,
    layers: &[LayerDescriptor],
    missing: &[usize],
    offers: &mut Offers,
) {
    let rows: Vec<(usize, &LayerParts)> = missing
        .iter()
        .filter_map(|n| Some((*n, table.layer(layers[*n].digest)?)))
        .collect();
    let Some(start) = rows.iter().map(|(_, row)| row.hot.offset).min() else {
        return;
    };
    let end = rows
        .iter()
        .map(|(_, row)| row.hot.offset + row.hot.length)
        .max()
        .unwrap_or(start);
    let fetched = match table.blob.parse() {
        Ok(digest) => source
            .blob_range(
                BlobRef {
                    digest,
                    size: table.size,
                },
                start..end,
            )
            .await
            .map_err(|e| e.to_string()),
        Err(_) => Err(format!("{} is no digest", table.blob)),
    };
    for (number, row) in rows {
        offers[number] = fetched
            .as_ref()
            .map_err(|reason| RefusalKind::Unusable.because(reason))
            .and_then(|bytes| {
                let hot = hot_part(bytes, row, start)
                    .map_err(|reason| RefusalKind::Unusable.because(reason))?;
                accept(hot, row, table, &layers[number]).map_err(|reason| Refusal {
                    words: format!("index {}: {reason}", row.index),
                    ..reason
                })
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
        checkpoints,
    };
    Ok(Candidate {
        bytes,
        identity,
        stream_size: index.stream_size(),
        place,
    })
}
