//! Signatures of indexes: who says that an index tells the truth about a layer of an image.

pub mod key;
pub mod statement;

pub use key::{KeyError, PublicKey, SigningKey};
pub use statement::{Signature, Statement};
