//! Decoder checkpoints: a cold section of the index, fetched when a chunk first needs it.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use index_format::{Chunk, Digest, FormatError, Index, Limits, SectionId, wire};

use brisk_blob::{Blob, BlobError};

/// Why the checkpoints could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// They could not be fetched.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// What was fetched is not what the index says.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The local copy could not be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl CheckpointError {
    /// Another attempt may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            CheckpointError::Blob(error) => error.is_retryable(),
            CheckpointError::Format(_) | CheckpointError::File { .. } => false,
        }
    }
}

/// Where a layer's checkpoints come from. Asked at most once at a time, and not again after
/// it has answered.
pub trait CheckpointSource: fmt::Debug + Send + Sync {
    /// The checkpoint section, verified.
    fn load(&self) -> BoxFuture<'_, Result<Checkpoints, CheckpointError>>;
}

/// A verified checkpoint section. In a file only the records that are used are read, so that
/// an idle layer takes no memory for it.
#[derive(Debug)]
pub enum Checkpoints {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file, from its start.
    File(File, PathBuf),
    /// In the layer's complete index.
    Index(Index),
}

impl Checkpoints {
    /// The record of one chunk.
    pub(super) fn record(&self, chunk: &Chunk) -> Result<Vec<u8>, CheckpointError> {
        match self {
            Checkpoints::Memory(section) => Ok(checkpoint_in(section, chunk)?),
            Checkpoints::Index(index) => Ok(index.checkpoint(chunk)?.to_vec()),
            Checkpoints::File(file, path) => read_record(file, path, &chunk.checkpoint),
        }
    }
}

fn checkpoint_in(section: &[u8], chunk: &Chunk) -> Result<Vec<u8>, FormatError> {
    index_format::chunk::checkpoint_in(section, chunk).map(<[u8]>::to_vec)
}

fn read_record(file: &File, path: &Path, range: &Range<u64>) -> Result<Vec<u8>, CheckpointError> {
    let failed = |source| CheckpointError::File {
        path: path.to_path_buf(),
        source,
    };
    let length = file.metadata().map_err(failed)?.len();
    if range.start > range.end || range.end > length {
        return Err(failed(io::Error::other(
            "the record lies outside the section",
        )));
    }
    let mut record = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut record, range.start)
        .map_err(failed)?;
    Ok(record)
}

/// The checkpoints of an index that is complete.
#[derive(Debug, Clone)]
pub struct IndexCheckpoints {
    index: Index,
}

impl IndexCheckpoints {
    /// Of this index, which has the section.
    pub fn new(index: Index) -> IndexCheckpoints {
        IndexCheckpoints { index }
    }
}

impl CheckpointSource for IndexCheckpoints {
    fn load(&self) -> BoxFuture<'_, Result<Checkpoints, CheckpointError>> {
        let index = self.index.clone();
        Box::pin(async move {
            if !index.has_section(SectionId::Checkpoints) {
                let section = SectionId::Checkpoints;
                return Err(FormatError::SectionAbsent { section }.into());
            }
            Ok(Checkpoints::Index(index))
        })
    }
}

/// Checkpoints in the network form of an index, kept in a file once they were fetched.
#[derive(Debug, Clone)]
pub struct FetchedCheckpoints {
    /// The index's hot part, whose header has the section's digest.
    pub index: Index,
    /// The blob with the index's network form.
    pub blob: Arc<dyn Blob>,
    /// Where in it the section's frame lies.
    pub range: Range<u64>,
    /// Where the section is kept.
    pub path: PathBuf,
    /// Limits on its size.
    pub limits: Limits,
}

impl FetchedCheckpoints {
    async fn load_once(&self) -> Result<Checkpoints, CheckpointError> {
        let expected = self.index.section_digest(SectionId::Checkpoints);
        let path = self.path.clone();
        let stored = blocking(move || open_stored(&path, expected)).await;
        if let Some(stored) = stored.flatten() {
            return Ok(stored);
        }
        let frame = self.blob.read_at(self.range.clone()).await?;
        let error = match self.decode(frame).await {
            Err(error @ CheckpointError::Format(_)) => error,
            decoded => return decoded,
        };
        // Damaged on the way, perhaps: once more, past whatever may keep copies.
        tracing::warn!(%error, "damaged checkpoints are fetched anew");
        let frame = self.blob.reread_at(self.range.clone()).await?;
        self.decode(frame).await
    }

    async fn decode(&self, frame: Bytes) -> Result<Checkpoints, CheckpointError> {
        let (index, limits, path) = (self.index.clone(), self.limits, self.path.clone());
        let decode = move || -> Result<Checkpoints, CheckpointError> {
            let section = wire::decode_cold(&index, SectionId::Checkpoints, &frame, &limits)?;
            Ok(store(section, path))
        };
        blocking(decode).await.unwrap_or_else(|| {
            let source = io::Error::other("the service is stopping");
            Err(CheckpointError::File {
                path: self.path.clone(),
                source,
            })
        })
    }
}

impl CheckpointSource for FetchedCheckpoints {
    fn load(&self) -> BoxFuture<'_, Result<Checkpoints, CheckpointError>> {
        Box::pin(self.load_once())
    }
}

/// Runs blocking work; `None` when the runtime is shutting down.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// The section as stored earlier; `None` when there is none or it is damaged.
fn open_stored(path: &Path, expected: Digest) -> Option<Checkpoints> {
    let bytes = std::fs::read(path).ok()?;
    if Digest::of(&bytes) != expected {
        tracing::warn!(
            ?path,
            "stored checkpoints are damaged; they are fetched anew"
        );
        return None;
    }
    File::open(path)
        .ok()
        .map(|file| Checkpoints::File(file, path.to_path_buf()))
}

/// Stores the section; where the disk does not take it, memory does.
fn store(section: Vec<u8>, path: PathBuf) -> Checkpoints {
    match brisk_durable::write_file(&path, &section).and_then(|()| File::open(&path)) {
        Ok(file) => Checkpoints::File(file, path),
        Err(error) => {
            tracing::debug!(?path, %error, "checkpoints stay in memory");
            Checkpoints::Memory(section)
        }
    }
}
