use futures_util::TryStreamExt;
use serde_json::{Value, json};

use super::*;
use crate::layout_directory::REF_NAME;
use crate::limits::MAX_MANIFEST_BYTES;
use crate::media;
use crate::{Client, ClientConfig, ImageSource, Source};

const TYPE: &str = "application/vnd.brisk.index.v1";

/// An image layout under construction.
struct Fixture {
    dir: tempfile::TempDir,
    entries: Vec<Value>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        std::fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        Self {
            dir,
            entries: Vec::new(),
        }
    }

    fn blob(&self, content: &[u8]) -> BlobRef {
        let digest = Digest::of(content);
        std::fs::write(
            self.dir.path().join("blobs/sha256").join(digest.hex()),
            content,
        )
        .unwrap();
        BlobRef {
            digest,
            size: content.len() as u64,
        }
    }

    fn manifest(&mut self, document: &Value, name: Option<&str>) -> Digest {
        let blob = self.blob(document.to_string().as_bytes());
        let mut entry = json!({
            "mediaType": media::OCI_MANIFEST, "digest": blob.digest.to_string(), "size": blob.size,
        });
        if let Some(name) = name {
            entry["annotations"] = json!({ REF_NAME: name });
        }
        if let Some(artifact_type) = document.get("artifactType") {
            entry["artifactType"] = artifact_type.clone();
        }
        self.entries.push(entry);
        blob.digest
    }

    fn layout(&self) -> Layout {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        std::fs::write(self.dir.path().join("index.json"), index.to_string()).unwrap();
        Layout::new(self.dir.path())
    }
}

fn image(name: &str) -> Value {
    json!({"schemaVersion": 2, "layers": [], "config": {}, "annotations": {"name": name}})
}

fn artifact(subject: Digest, artifact_type: &str) -> Value {
    let subject =
        json!({"mediaType": media::OCI_MANIFEST, "digest": subject.to_string(), "size": 1});
    json!({"layers": [], "artifactType": artifact_type, "subject": subject})
}

#[tokio::test]
async fn entries_are_found_by_tag_or_as_the_only_one() {
    let mut fixture = Fixture::new();
    let one = fixture.manifest(&image("one"), Some("v1"));
    let found = fixture.layout().named_manifest(None).await.unwrap();
    assert_eq!(found.digest, one);
    assert_eq!(found.media_type, media::OCI_MANIFEST);

    fixture.manifest(&artifact(one, TYPE), None);
    assert_eq!(
        fixture.layout().named_manifest(None).await.unwrap().digest,
        one
    );

    let two = fixture.manifest(&image("two"), Some("v2"));
    let layout = fixture.layout();
    assert_eq!(layout.named_manifest(Some("v2")).await.unwrap().digest, two);
    assert_eq!(layout.named_manifest(Some("v1")).await.unwrap().digest, one);
    let error = layout.named_manifest(None).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::Layout(LayoutError::Ambiguous { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("v1, v2"), "{error}");
    let error = layout.named_manifest(Some("v3")).await.unwrap_err();
    assert!(
        error.is_not_found() && error.to_string().contains("v1, v2"),
        "{error}"
    );

    let latest = fixture.manifest(&image("three"), Some("latest"));
    assert_eq!(
        fixture.layout().named_manifest(None).await.unwrap().digest,
        latest
    );
}

#[tokio::test]
async fn the_handle_serves_layouts_by_the_same_calls() {
    let mut fixture = Fixture::new();
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
    let blob = fixture.blob(&content);
    let digest = fixture.manifest(&image("one"), Some("v1"));
    fixture.layout();
    let client = Client::new(ClientConfig::default());
    let open = |text: String| ImageSource::new(client.clone(), text.parse::<Source>().unwrap());
    let dir = fixture.dir.path().display();
    let source = open(format!("oci:{dir}:v1"));
    assert_eq!(source.scope(), format!("oci:{dir}"));
    assert_eq!(source.named_manifest().await.unwrap().digest, digest);
    assert_eq!(source.manifest(digest).await.unwrap().digest, digest);
    let pinned = open(format!("oci:{dir}@{digest}"));
    assert_eq!(pinned.named_manifest().await.unwrap().digest, digest);
    assert_eq!(source.blob(blob).await.unwrap(), content);
    assert_eq!(
        source.blob_range(blob, 5..1_500_000).await.unwrap(),
        &content[5..1_500_000]
    );
    let pieces: Vec<Bytes> = source
        .blob_stream(blob, 7..2_999_999)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(pieces.concat(), &content[7..2_999_999]);
    assert!(pieces.len() > 1);
}

#[tokio::test]
async fn ranges_and_digests_are_checked() {
    let fixture = Fixture::new();
    let blob = fixture.blob(b"0123456789");
    let layout = fixture.layout();
    let error = layout.blob_range(blob, 5..11).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::InvalidRange { .. }),
        "{error}"
    );
    let longer = BlobRef { size: 20, ..blob };
    let error = layout.blob_range(longer, 5..11).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Layout(LayoutError::WrongSize { .. })),
        "{error}"
    );
    let absent = BlobRef {
        digest: Digest::of(b"absent"),
        size: 6,
    };
    assert!(layout.blob(absent).await.unwrap_err().is_not_found());

    std::fs::write(layout.directory.blob_path(blob.digest), b"0123456780").unwrap();
    let error = layout.blob(blob).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
    let error = layout.manifest(blob.digest).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn referrers_are_found_by_subject_and_by_tag() {
    let mut fixture = Fixture::new();
    let subject = fixture.manifest(&image("one"), Some("v1"));
    let first = fixture.manifest(&artifact(subject, TYPE), None);
    fixture.manifest(&artifact(subject, "x/y"), None);
    fixture.manifest(&artifact(Digest::of(b"other"), TYPE), None);
    let listed = Digest::of(b"listed");
    let fallback = json!({"manifests": [
        {"mediaType": media::OCI_MANIFEST, "digest": listed.to_string(), "size": 1, "artifactType": TYPE},
        {"mediaType": media::OCI_MANIFEST, "digest": first.to_string(), "size": 1, "artifactType": TYPE},
    ]});
    let tag = format!("sha256-{}", subject.hex());
    fixture.manifest(&fallback, Some(&tag));
    fixture.entries.last_mut().unwrap()["mediaType"] = media::OCI_INDEX.into();
    let found = fixture
        .layout()
        .referrers(subject, Some(TYPE))
        .await
        .unwrap();
    let digests: Vec<_> = found.iter().map(|d| d.digest().to_string()).collect();
    assert_eq!(digests, [first.to_string(), listed.to_string()]);
    assert_eq!(
        fixture
            .layout()
            .referrers(subject, None)
            .await
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn what_is_no_layout_is_refused() {
    let fixture = Fixture::new();
    let layout = fixture.layout();
    let kind = |error: RegistryError| match error {
        RegistryError::Layout(error) => error,
        other => panic!("{other}"),
    };
    let empty = kind(layout.named_manifest(None).await.unwrap_err());
    assert!(matches!(empty, LayoutError::NoEntry { .. }), "{empty}");
    let write = |name: &str, text: &str| {
        std::fs::write(fixture.dir.path().join(name), text).unwrap();
    };
    write("index.json", "{");
    let error = kind(layout.named_manifest(None).await.unwrap_err());
    assert!(matches!(error, LayoutError::Malformed { .. }), "{error}");
    let escaping =
        r#"{"manifests":[{"mediaType":"x","digest":"sha256:../../../etc/passwd","size":1}]}"#;
    write("index.json", escaping);
    let error = kind(layout.named_manifest(None).await.unwrap_err());
    assert!(matches!(error, LayoutError::Malformed { .. }), "{error}");
    let other = format!(
        r#"{{"manifests":[{{"mediaType":"x","digest":"sha512:{}","size":1}}]}}"#,
        "0".repeat(128)
    );
    write("index.json", &other);
    let error = kind(layout.named_manifest(None).await.unwrap_err());
    assert!(error.to_string().contains("not supported"), "{error}");
    write("index.json", &" ".repeat(MAX_MANIFEST_BYTES as usize + 1));
    let error = kind(layout.named_manifest(None).await.unwrap_err());
    assert!(error.to_string().contains("larger than"), "{error}");
    write("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    let error = kind(layout.named_manifest(None).await.unwrap_err());
    assert!(matches!(error, LayoutError::NotALayout { .. }), "{error}");
    std::fs::remove_file(fixture.dir.path().join("oci-layout")).unwrap();
    let error = kind(layout.named_manifest(None).await.unwrap_err());
    assert!(matches!(error, LayoutError::NotALayout { .. }), "{error}");
}

#[tokio::test]
async fn a_fifo_does_not_block() {
    let fixture = Fixture::new();
    let layout = fixture.layout();
    let blob = BlobRef {
        digest: Digest::of(b"x"),
        size: 1,
    };
    let path = layout.directory.blob_path(blob.digest);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let read = tokio::time::timeout(std::time::Duration::from_secs(5), layout.blob(blob));
    let error = read.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}
