//! What a signature says: that an index is the truth about one layer of one image.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use index_format::Digest;
use serde::{Deserialize, Serialize};

use crate::error::ImageError;
use crate::sign::key::{PublicKey, SigningKey};

/// Annotation of an index artifact that holds the signatures of its indexes.
pub const SIGNATURES_ANNOTATION: &str = "dev.brisk.index.signatures";
/// Most signatures of one artifact that are read: 128 layers, each signed by some keys.
const SIGNATURE_LIMIT: usize = 1024;

/// The signed facts. A signature of one layer, image or index is none of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Digest of the image manifest.
    pub image: Digest,
    /// Digest of the compressed layer.
    pub layer: Digest,
    /// Digest of the uncompressed layer.
    pub diff_id: Digest,
    /// Identity of the index: the digest of its header.
    pub index: Digest,
}

/// A signature of one layer's index, as the annotation holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The key, by [`PublicKey::id`].
    pub key: String,
    /// Digest of the compressed layer.
    pub layer: String,
    /// The signature of the statement, base64.
    pub signature: String,
}

impl Statement {
    /// The signed bytes. The first line keeps signatures of other things by the same key apart.
    fn bytes(&self) -> Vec<u8> {
        format!(
            "brisk index signature v1\nimage {}\nlayer {}\ndiff-id {}\nindex {}\n",
            self.image, self.layer, self.diff_id, self.index
        )
        .into_bytes()
    }

    /// Signs it.
    pub fn sign(&self, key: &SigningKey) -> Signature {
        Signature {
            key: key.public().id(),
            layer: self.layer.to_string(),
            signature: STANDARD.encode(key.sign(&self.bytes())),
        }
    }

    /// The one of `keys` that has signed it, if any.
    pub fn signed_by(&self, signatures: &[Signature], keys: &[PublicKey]) -> Option<PublicKey> {
        let layer = self.layer.to_string();
        let of_layer = signatures.iter().filter(|s| s.layer == layer);
        for signature in of_layer {
            let Ok(bytes) = STANDARD.decode(&signature.signature) else {
                continue;
            };
            let mut named = keys.iter().filter(|key| key.id() == signature.key);
            if let Some(key) = named.find(|key| key.verifies(&self.bytes(), &bytes)) {
                return Some(*key);
            }
        }
        None
    }
}

/// The annotation that holds signatures.
///
/// # Errors
/// Never for what this program makes.
pub fn to_annotation(signatures: &[Signature]) -> Result<String, ImageError> {
    serde_json::to_string(signatures).map_err(|error| ImageError::Artifact {
        message: error.to_string(),
    })
}

/// Reads an annotation; what cannot be read signs nothing.
pub fn from_annotation(text: Option<&str>) -> Vec<Signature> {
    let parsed = text.and_then(|text| serde_json::from_str::<Vec<Signature>>(text).ok());
    let mut signatures = parsed.unwrap_or_default();
    signatures.truncate(SIGNATURE_LIMIT);
    signatures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(words: [&str; 4]) -> Statement {
        let [image, layer, diff_id, index] = words.map(|word| Digest::of(word.as_bytes()));
        Statement {
            image,
            layer,
            diff_id,
            index,
        }
    }

    #[test]
    fn a_signature_is_of_one_statement_by_one_key() {
        let (key, other) = (
            SigningKey::generate().unwrap().0,
            SigningKey::generate().unwrap().0,
        );
        let signed = statement(["image", "layer", "diff", "index"]);
        let signatures = from_annotation(Some(&to_annotation(&[signed.sign(&key)]).unwrap()));
        let by = |statement: &Statement, keys: &[PublicKey]| statement.signed_by(&signatures, keys);
        assert_eq!(
            by(&signed, &[other.public(), key.public()]),
            Some(key.public())
        );
        assert_eq!(by(&signed, &[other.public()]), None);
        assert_eq!(by(&signed, &[]), None);
        for replayed in [
            ["other", "layer", "diff", "index"],
            ["image", "other", "diff", "index"],
            ["image", "layer", "other", "index"],
            ["image", "layer", "diff", "other"],
        ] {
            assert_eq!(
                by(&statement(replayed), &[key.public()]),
                None,
                "{replayed:?}"
            );
        }
        // A key that signs under another's name is not that other.
        let mut forged = signed.sign(&other);
        forged.key = key.public().id();
        assert_eq!(
            signed.signed_by(&[forged], &[key.public(), other.public()]),
            None
        );
        for damaged in ["", "[]", "{", "[{\"key\":1}]"] {
            assert!(from_annotation(Some(damaged)).is_empty());
        }
    }
}
