//! What can be wrong with an image layout directory.

use std::io;
use std::path::PathBuf;

/// An image layout that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not an image layout of version 1.
    #[error("{}: not an OCI image layout: {reason}", .dir.display())]
    NotALayout {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// A document that is not what the specification says.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No entry has the tag, or there are none.
    #[error("{}: no entry {wanted}; it has {names}", .dir.display())]
    NoEntry {
        /// The directory.
        dir: PathBuf,
        /// What was looked for.
        wanted: String,
        /// The names that there are.
        names: String,
    },
    /// Several entries fit.
    #[error("{}: several entries; name one as oci:DIR:TAG, it has {names}", .dir.display())]
    Ambiguous {
        /// The directory.
        dir: PathBuf,
        /// The names that there are.
        names: String,
    },
    /// A blob has another size than its descriptor says.
    #[error("{}: {actual} bytes, its descriptor says {expected}", .path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// The descriptor's size.
        expected: u64,
        /// The file's size.
        actual: u64,
    },
    /// The thread that read the file was cancelled.
    #[error("{}: reading was interrupted", .dir.display())]
    Interrupted {
        /// The directory.
        dir: PathBuf,
    },
}

impl LayoutError {
    pub(super) fn is_not_found(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::NoEntry { .. } => true,
            _ => false,
        }
    }
}
