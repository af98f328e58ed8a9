//! A blob in a local file, as an image layout directory holds it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};

use super::{Blob, BlobError, check_range};

/// Bytes read at a time when streaming.
const STREAM_STEP: u64 = 1 << 20;

/// A file, read by range.
#[derive(Debug, Clone)]
pub struct FileBlob {
    file: Arc<File>,
    path: PathBuf,
    size: u64,
}

impl FileBlob {
    /// Opens the file; its size is what it is now.
    ///
    /// # Errors
    /// `File` when it cannot be opened.
    pub fn open(path: &Path) -> Result<FileBlob, BlobError> {
        let open = || {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        let (file, size) = open().map_err(|source| BlobError::File {
            path: path.to_path_buf(),
            range: 0..0,
            source,
        })?;
        Ok(FileBlob {
            file: Arc::new(file),
            path: path.to_path_buf(),
            size,
        })
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        check_range(&self.name(), &range, self.size)?;
        let (file, wanted) = (self.file.clone(), range.clone());
        let read = move || {
            let mut bytes = vec![0; (wanted.end - wanted.start) as usize];
            file.read_exact_at(&mut bytes, wanted.start)
                .map(|()| Bytes::from(bytes))
        };
        let read = tokio::task::spawn_blocking(read)
            .await
            .map_err(std::io::Error::other);
        let failed = |source| BlobError::File {
            path: self.path.clone(),
            range,
            source,
        };
        read.flatten().map_err(failed)
    }
}

impl Blob for FileBlob {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        Box::pin(self.read(range))
    }

    fn stream(&self, range: Range<u64>) -> BoxStream<'_, Result<Bytes, BlobError>> {
        stream::try_unfold(range.start, move |at| async move {
            if at == range.end {
                return Ok(None);
            }
            let end = at.saturating_add(STREAM_STEP).min(range.end).max(at);
            let bytes = self.read(at..end).await?;
            Ok(Some((bytes, end)))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::FileBlob;
    use crate::{Blob, BlobError};
    use futures_util::TryStreamExt;

    #[tokio::test]
    async fn reads_ranges_and_streams() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let blob = FileBlob::open(&path).unwrap();
        assert_eq!(blob.size(), 3_000_000);
        assert_eq!(blob.read_at(5..5).await.unwrap().len(), 0);
        assert_eq!(
            blob.read_at(999_999..1_500_001).await.unwrap(),
            content[999_999..1_500_001]
        );
        let pieces: Vec<_> = blob.stream(17..3_000_000).try_collect().await.unwrap();
        assert_eq!(pieces.concat(), content[17..]);
        for range in [2_999_999..3_000_001, 3_000_001..3_000_001] {
            let outside = blob.read_at(range).await;
            assert!(matches!(outside, Err(BlobError::OutOfRange { .. })));
        }
        let outside: Result<Vec<_>, _> = blob.stream(3_000_001..3_000_002).try_collect().await;
        assert!(outside.is_err());
    }

    #[tokio::test]
    async fn a_file_that_shrank_is_an_error_and_not_short() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        std::fs::write(&path, [1; 1000]).unwrap();
        let blob = FileBlob::open(&path).unwrap();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(500)
            .unwrap();
        let read = blob.read_at(400..600).await;
        assert!(matches!(read, Err(BlobError::File { .. })));
    }
}
