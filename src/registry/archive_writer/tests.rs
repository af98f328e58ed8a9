use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::{Layout, in_memory, media};

#[tokio::test]
async fn an_archive_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("image.tar");
    fs::write(&file, "older").unwrap();
    let content = Bytes::from(vec![3; 70_000]);
    let blob = BlobRef {
        digest: Digest::of(&content),
        size: content.len() as u64,
    };
    let manifest = json!({"mediaType": media::OCI_MANIFEST, "layers": []}).to_string();
    let write = async |finish: bool| {
        let writer = ArchiveWriter::create(&file).unwrap();
        let give = in_memory(content.clone());
        assert_eq!(writer.put_blob(blob, &give).await.unwrap(), Uploaded::Sent);
        assert_eq!(
            writer.put_blob(blob, &give).await.unwrap(),
            Uploaded::WasThere
        );
        let digest = writer.put_manifest(manifest.as_bytes()).await.unwrap();
        let entry = json!({"mediaType": media::OCI_MANIFEST, "digest": digest.to_string(),
            "size": manifest.len()});
        writer.list(entry, Some("v1")).await;
        if finish {
            writer.finish().await.unwrap();
        }
    };
    write(false).await;
    assert_eq!(fs::read(&file).unwrap(), b"older");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    write(true).await;
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    let layout = Layout::of_archive(&file).await.unwrap();
    let found = layout.named_manifest(Some("v1")).await.unwrap();
    assert_eq!(found.bytes, manifest.as_bytes());
    assert_eq!(layout.blob(blob).await.unwrap(), content);
    let part = layout.blob_range(blob, 100..200).await.unwrap();
    assert_eq!(part, &content[100..200]);

    // As `tar -C DIR -cf FILE .` writes it.
    let unpacked = directory.path().join("dir");
    tar::Archive::new(File::open(&file).unwrap())
        .unpack(&unpacked)
        .unwrap();
    let mut other = tar::Builder::new(File::create(&file).unwrap());
    other.append_dir_all(".", &unpacked).unwrap();
    other.finish().unwrap();
    let layout = Layout::of_archive(&file).await.unwrap();
    assert_eq!(layout.blob(blob).await.unwrap(), content);

    // Cut short, wherever that is, it is an error or lacks what is missing.
    let whole = fs::read(&file).unwrap();
    for length in [0, 100, 600, 40_000, 75_000] {
        fs::write(&file, &whole[..length]).unwrap();
        if let Ok(layout) = Layout::of_archive(&file).await {
            assert!(
                layout.blob(blob).await.is_err() || length > 70_000,
                "{length}"
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_blob_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let writer = ArchiveWriter::create(directory.path().join("image.tar")).unwrap();
    let blob = BlobRef {
        digest: Digest::of(b"abc"),
        size: 3,
    };
    let give = in_memory(Bytes::from_static(b"abd"));
    let error = writer.put_blob(blob, &give).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
    drop(writer);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
