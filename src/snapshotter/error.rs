//! Why a call fails.

use std::io;
use std::path::{Path, PathBuf};

/// Why a call on a snapshot failed. The first four are containerd's own classes, and clients
/// decide by them.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no snapshot of this name.
    #[error("snapshot {name:?} does not exist")]
    NotFound {
        /// The name or key.
        name: String,
    },
    /// A snapshot of this name is there already.
    #[error("snapshot {name:?} exists already")]
    AlreadyExists {
        /// The name or key.
        name: String,
    },
    /// The request itself makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// The snapshot is not in the state that the call needs.
    #[error("snapshot {name:?} {state}")]
    FailedPrecondition {
        /// The name or key.
        name: String,
        /// What it is instead.
        state: &'static str,
    },
    /// What is asked for cannot be had now; it may be later.
    #[error("{0}")]
    Unavailable(String),
    /// A file or directory of the root cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The metadata cannot be read or written.
    #[error("metadata of the snapshots: {0}")]
    Metadata(#[from] redb::Error),
    /// The metadata file cannot be opened.
    #[error("{}: {source} (hint: another brisk daemon may have this root; if the file is damaged, remove the root's snapshotter directory and let containerd pull again)", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the store said.
        source: redb::Error,
    },
    /// What is stored of a snapshot cannot be understood.
    #[error("record of snapshot {name:?}: {source} (hint: a newer brisk may have written it)")]
    Record {
        /// The name or key.
        name: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

impl SnapshotError {
    /// No snapshot of this name.
    pub fn not_found(name: &str) -> Self {
        SnapshotError::NotFound {
            name: name.to_owned(),
        }
    }

    /// A snapshot of this name is there.
    pub fn exists(name: &str) -> Self {
        SnapshotError::AlreadyExists {
            name: name.to_owned(),
        }
    }

    /// A snapshot in a state in which the call cannot be carried out.
    pub fn state(name: &str, state: &'static str) -> Self {
        SnapshotError::FailedPrecondition {
            name: name.to_owned(),
            state,
        }
    }

    /// For `map_err` on a file operation.
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| SnapshotError::File { path, source }
    }
}
