//! The layers that a merged index was made of.

use crate::digest::Digest;
use crate::error::FormatError;
use crate::header::Compression;
use crate::index::Index;
use crate::record::LayerRecord;
use crate::section::SectionId;

/// A layer of a merged index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedLayer {
    /// The layer blob's digest.
    pub layer_digest: Digest,
    /// The digest of the layer's tar.
    pub diff_id: Digest,
    /// The identity of the layer's index that was merged.
    pub index_digest: Digest,
    /// Bytes of the layer's blob.
    pub compressed_size: u64,
    /// Bytes of the layer's stream.
    pub stream_size: u64,
    /// How the blob is compressed.
    pub compression: Compression,
}

impl Index {
    /// The layers of a merged index, bottom first; none in a layer's index.
    ///
    /// # Errors
    /// A damaged record.
    pub fn layers(&self) -> Result<Vec<MergedLayer>, FormatError> {
        self.records::<LayerRecord>(SectionId::Layers)?
            .iter()
            .zip(0..)
            .map(|(record, number)| {
                Ok(MergedLayer {
                    layer_digest: Digest::from_bytes(record.layer_digest),
                    diff_id: Digest::from_bytes(record.diff_id),
                    index_digest: Digest::from_bytes(record.index_digest),
                    compressed_size: record.compressed_size.get(),
                    stream_size: record.stream_size.get(),
                    compression: Compression::from_number(record.compression).ok_or(
                        FormatError::Record {
                            section: SectionId::Layers,
                            record: number,
                            problem: "unknown compression",
                        },
                    )?,
                })
            })
            .collect()
    }
}
