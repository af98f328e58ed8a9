//! Ed25519 keys (RFC 8032) in the files that OpenSSL and others write: PKCS#8 and
//! SubjectPublicKeyInfo (RFC 8410), as PEM (RFC 7468).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use index_format::Digest;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// What stands before the 32 bytes of a public key in its SubjectPublicKeyInfo.
const PUBLIC_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// Bytes of a public key.
const PUBLIC_BYTES: usize = 32;
/// Largest key file read: real ones have some 120 bytes.
const KEY_FILE_LIMIT: u64 = 16 * 1024;
/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("key {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no such key.
    #[error("key {file} is no {wanted} (PEM, Ed25519): {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// `private key` or `public key`.
        wanted: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// No key can be made.
    #[error("the system gives no randomness for a key")]
    Randomness,
}

/// A private key.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Ed25519KeyPair>,
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; PUBLIC_BYTES]);

impl SigningKey {
    /// A new key, and its file.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KeyError::Randomness)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref());
        let pair = Arc::new(pair.map_err(|_| KeyError::Randomness)?);
        Ok((Self { pair }, to_pem("PRIVATE KEY", document.as_ref())))
    }

    /// The key in a file.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let malformed = |reason: String| KeyError::Malformed {
            file: path.display().to_string(),
            wanted: "private key",
            reason,
        };
        let der = from_pem("PRIVATE KEY", &read(path)?).map_err(malformed)?;
        // OpenSSL leaves the public key out.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map_err(|error| malformed(error.to_string()))?;
        Ok(Self {
            pair: Arc::new(pair),
        })
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref();
        PublicKey(bytes.try_into().expect("Ed25519 keys have 32 bytes"))
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl PublicKey {
    /// The key in a file.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let malformed = |reason: String| KeyError::Malformed {
            file: path.display().to_string(),
            wanted: "public key",
            reason,
        };
        let der = from_pem("PUBLIC KEY", &read(path)?).map_err(malformed)?;
        let bytes = der
            .strip_prefix(&PUBLIC_PREFIX)
            .and_then(|key| key.try_into().ok())
            .ok_or_else(|| malformed("it is of another kind".to_owned()))?;
        Ok(Self(bytes))
    }

    /// Its file.
    pub fn to_pem(self) -> String {
        to_pem("PUBLIC KEY", &[&PUBLIC_PREFIX[..], &self.0].concat())
    }

    /// What names it: the SHA-256 of its 32 bytes, in hexadecimal.
    pub fn id(self) -> String {
        Digest::of(&self.0).hex()
    }

    /// True where the signature is this key's of the message.
    pub fn verifies(self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey of {:?}", self.public())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey {}", self.id())
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    use std::io::Read;
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        file.take(KEY_FILE_LIMIT).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|source| KeyError::Read {
        file: path.display().to_string(),
        source,
    })
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, following) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = following;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn from_pem(label: &str, text: &str) -> Result<Vec<u8>, String> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let body = text
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end))
        .map(|(body, _)| body)
        .ok_or_else(|| format!("it has no {begin}"))?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let (private, public) = (directory.path().join("k"), directory.path().join("k.pub"));
        let (key, pem) = SigningKey::generate().unwrap();
        std::fs::write(&private, pem).unwrap();
        std::fs::write(&public, key.public().to_pem()).unwrap();
        let again = SigningKey::read(&private).unwrap();
        let read = PublicKey::read(&public).unwrap();
        assert_eq!((again.public(), read), (key.public(), key.public()));
        let signature = again.sign(b"message");
        assert!(read.verifies(b"message", &signature));
        assert!(!read.verifies(b"massage", &signature));
        assert!(!read.verifies(b"message", &signature[1..]));
        let (other, _) = SigningKey::generate().unwrap();
        assert!(!other.public().verifies(b"message", &signature));
        for (wrong, said) in [
            (PublicKey::read(&private).unwrap_err(), "public key"),
            (SigningKey::read(&public).unwrap_err(), "private key"),
            (
                SigningKey::read(&directory.path().join("x")).unwrap_err(),
                "No such file",
            ),
        ] {
            let wrong = wrong.to_string();
            let directory = directory.path().to_str().unwrap();
            assert!(wrong.contains(said) && wrong.contains(directory), "{wrong}");
        }
    }

    /// Made by `openssl genpkey -algorithm ed25519` (3.0), with its public key by `openssl pkey
    /// -pubout`: the private key of RFC 8032, 7.1, TEST 1.
    #[test]
    fn openssls_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let secret = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let prefix = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        std::fs::write(
            &path,
            to_pem("PRIVATE KEY", &[&prefix[..], &secret].concat()),
        )
        .unwrap();
        let public = SigningKey::read(&path).unwrap().public();
        assert_eq!(public.0[..4], [0xd7, 0x5a, 0x98, 0x01]);
    }
}
