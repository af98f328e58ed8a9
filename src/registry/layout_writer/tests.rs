use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::{BlobStream, Layout};

fn blob(content: &[u8]) -> BlobRef {
    BlobRef {
        digest: Digest::of(content),
        size: content.len() as u64,
    }
}

/// Content that breaks off after so many bytes, and what was asked for of it.
struct Breaking {
    content: Bytes,
    end: usize,
    asked: AtomicU64,
}

impl Breaking {
    fn new(content: &[u8], end: usize) -> Self {
        Self {
            content: Bytes::copy_from_slice(content),
            end,
            asked: AtomicU64::new(u64::MAX),
        }
    }

    fn give(&self, range: Range<u64>) -> BlobStream {
        self.asked.store(range.start, Ordering::SeqCst);
        let part = self.content.slice(range.start as usize..self.end);
        let mut pieces = vec![Ok(part)];
        if self.end < self.content.len() {
            let source = io::Error::other("broken");
            let path = PathBuf::from("source");
            pieces.push(Err(LayoutError::Io { path, source }.into()));
        }
        Box::pin(futures_util::stream::iter(pieces))
    }
}

async fn put(
    writer: &LayoutWriter,
    content: &[u8],
    end: usize,
) -> (Result<Uploaded, RegistryError>, u64) {
    let source = Breaking::new(content, end);
    let put = writer
        .put_blob(blob(content), &|range| source.give(range))
        .await;
    (put, source.asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_blob_has_its_name_when_it_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("new/layout");
    let writer = LayoutWriter::open(&dir).unwrap();
    let content = vec![7; 100_000];
    let path = dir.join("blobs/sha256").join(Digest::of(&content).hex());
    let (failed, from) = put(&writer, &content, 40_000).await;
    assert!(failed.is_err() && from == 0 && !path.exists());
    // The next attempt goes on, in another process as well.
    let writer = LayoutWriter::open(&dir).unwrap();
    let (whole, from) = put(&writer, &content, content.len()).await;
    assert_eq!((whole.unwrap(), from), (Uploaded::Sent, 40_000));
    assert_eq!(fs::read(&path).unwrap(), content);
    assert!(!dir.join(PARTIAL).exists());
    let (there, from) = put(&writer, &content, content.len()).await;
    assert_eq!((there.unwrap(), from), (Uploaded::WasThere, u64::MAX));
    let (empty, _) = put(&writer, b"", 0).await;
    assert_eq!(empty.unwrap(), Uploaded::Sent);
}

#[tokio::test]
async fn what_an_earlier_attempt_left_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let writer = LayoutWriter::open(directory.path()).unwrap();
    let content = vec![7; 1000];
    let hex = Digest::of(&content).hex();
    for left in [vec![0; 500], vec![7; 1001]] {
        fs::create_dir_all(directory.path().join(PARTIAL)).unwrap();
        fs::write(directory.path().join(PARTIAL).join(&hex), left).unwrap();
        let (whole, from) = put(&writer, &content, content.len()).await;
        assert_eq!((whole.unwrap(), from), (Uploaded::Sent, 0));
        let path = directory.path().join("blobs/sha256").join(&hex);
        assert_eq!(fs::read(&path).unwrap(), content);
        fs::remove_file(path).unwrap();
    }
    let wrong = BlobRef {
        digest: Digest::of(b"another"),
        size: content.len() as u64,
    };
    let source = Breaking::new(&content, content.len());
    let error = writer
        .put_blob(wrong, &|range| source.give(range))
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
    assert!(
        fs::read_dir(directory.path().join(PARTIAL))
            .unwrap()
            .next()
            .is_none()
    );
}

#[tokio::test]
async fn a_tag_names_one_manifest_and_others_entries_stay() {
    let directory = tempfile::tempdir().unwrap();
    let writer = LayoutWriter::open(directory.path()).unwrap();
    let manifest =
        |n: u32| json!({"mediaType": media::OCI_MANIFEST, "layers": [], "n": n}).to_string();
    let list = |n: u32, tag: Option<&str>| {
        let digest = writer.put_manifest(manifest(n).as_bytes()).unwrap();
        let entry = json!({"mediaType": media::OCI_MANIFEST, "digest": digest.to_string(),
            "size": manifest(n).len()});
        writer.list(entry, tag).unwrap();
        digest
    };
    let (one, two) = (list(1, Some("a")), list(2, Some("b")));
    let layout = Layout::new(directory.path());
    let named = async |tag| {
        layout
            .named_manifest(Some(tag))
            .await
            .map(|found| found.digest)
    };
    assert_eq!(
        (named("a").await.unwrap(), named("b").await.unwrap()),
        (one, two)
    );
    let three = list(3, Some("a"));
    list(4, None);
    list(4, None);
    assert_eq!(
        (named("a").await.unwrap(), named("b").await.unwrap()),
        (three, two)
    );
    let index: Value =
        serde_json::from_slice(&fs::read(directory.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
}

#[test]
fn other_directories_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let error = LayoutWriter::open(directory.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("not an OCI image layout"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    let file = directory.path().join("file");
    assert!(LayoutWriter::open(&file).is_err());
}
