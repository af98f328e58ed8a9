//! The client against a real registry: Debian's `docker-registry` (distribution 2.8), which
//! has no referrers API, so that the fallback tag is in use.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use index_format::Digest;
use serde_json::json;

use crate::{
    BlobRef, Client, ClientConfig, ImageSource, ManifestTarget, Reference, Repository, Source,
    media,
};

const REGISTRY: &str = "/usr/bin/docker-registry";
const TYPE: &str = "application/vnd.brisk.index.v1";

/// A registry process with its storage. Killed when dropped.
struct Registry {
    process: Child,
    host: String,
    _storage: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    async fn start() -> Self {
        Self::start_with(|_| String::new()).await
    }

    /// Starts a registry; `http` gives more of its `http` section, given a directory.
    async fn start_with(http: impl FnOnce(&Path) -> String) -> Self {
        let storage = tempfile::tempdir().unwrap();
        // Freed for the registry; nobody else is handed the same port so soon.
        let host = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let config = storage.path().join("config.yml");
        let data = storage.path().join("data");
        let text = format!(
            "version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {}}}
  delete: {{enabled: true}}
\
             http:
  addr: \"{host}\"
{}",
            data.display(),
            http(storage.path()),
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new(REGISTRY)
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{REGISTRY} (package docker-registry): {error}"));
        let registry = Self {
            process,
            host,
            _storage: storage,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(&registry.host)
            .await
            .is_err()
        {
            assert!(Instant::now() < deadline, "the registry does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry
    }

    fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host).parse().unwrap()
    }
}

fn descriptor(media_type: &str, blob: BlobRef) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": blob.digest.to_string(), "size": blob.size})
}

/// Pushes an image of one layer and returns its manifest's digest and the layer.
async fn push_image(client: &Client, reference: &Reference, layer: &[u8]) -> (Digest, BlobRef) {
    let repository = reference.repository();
    let config = Bytes::from_static(br#"{"architecture":"amd64","os":"linux"}"#);
    let config = client.upload_blob(repository, config).await.unwrap();
    let layer = client
        .upload_blob(repository, Bytes::copy_from_slice(layer))
        .await
        .unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, config),
        "layers": [descriptor(media::OCI_LAYER, layer)],
    });
    let target = ManifestTarget::Tag(reference.tag().unwrap().to_owned());
    let content = Bytes::from(manifest.to_string());
    let (digest, listed) = client
        .put_manifest(repository, &target, media::OCI_MANIFEST, content)
        .await
        .unwrap();
    assert!(!listed, "this registry has no referrers API");
    (digest, layer)
}

async fn push_referrer(
    client: &Client,
    repository: &Repository,
    subject: BlobRef,
    name: &str,
) -> Digest {
    let empty = client
        .upload_blob(repository, Bytes::from_static(b"{}"))
        .await
        .unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": TYPE,
        "config": descriptor(media::OCI_EMPTY, empty),
        "layers": [descriptor(media::OCI_EMPTY, empty)],
        "subject": descriptor(media::OCI_MANIFEST, subject),
        "annotations": {"name": name},
    });
    let content = Bytes::from(manifest.to_string());
    client
        .push_referrer(repository, media::OCI_MANIFEST, content)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_image_and_its_referrers_are_pushed_and_read_back() {
    let registry = Registry::start().await;
    let client = Client::new(ClientConfig::default());
    let reference = registry.reference("team/app:v1");
    let repository = reference.repository();
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
    let (digest, layer) = push_image(&client, &reference, &content).await;

    let source: Source = reference.to_string().parse().unwrap();
    let image = ImageSource::new(client.clone(), source);
    let manifest = image.named_manifest().await.unwrap();
    assert_eq!(manifest.digest, digest);
    assert_eq!(image.manifest(digest).await.unwrap(), manifest);
    assert_eq!(
        image.blob_range(layer, 1000..2_000_001).await.unwrap(),
        &content[1000..2_000_001]
    );
    assert_eq!(image.blob(layer).await.unwrap(), content);
    let pieces: Vec<Bytes> = image
        .blob_stream(layer, 5..3_000_000)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(pieces.concat(), &content[5..]);

    assert!(
        image
            .referrers(digest, Some(TYPE))
            .await
            .unwrap()
            .is_empty()
    );
    let subject = BlobRef {
        digest,
        size: manifest.bytes.len() as u64,
    };
    let (one, two) = tokio::join!(
        push_referrer(&client, repository, subject, "one"),
        push_referrer(&client, repository, subject, "two"),
    );
    let found = image.referrers(digest, Some(TYPE)).await.unwrap();
    let mut digests: Vec<_> = found.iter().map(|d| d.digest().to_string()).collect();
    digests.sort();
    let mut expected = [one.to_string(), two.to_string()];
    expected.sort();
    assert_eq!(digests, expected);
    assert!(
        found
            .iter()
            .all(|d| d.annotations().as_ref().unwrap().contains_key("name"))
    );
    assert!(
        image
            .referrers(digest, Some("x/y"))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(client.trips().retries, 0);
}

#[tokio::test]
async fn what_is_missing_is_told_with_the_registrys_words() {
    let registry = Registry::start().await;
    let client = Client::new(ClientConfig::default());
    let reference = registry.reference("none:v1");
    let error = client.manifest(&reference).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(error.to_string().contains("MANIFEST_UNKNOWN"), "{error}");
    let blob = BlobRef {
        digest: Digest::of(b"absent"),
        size: 6,
    };
    let error = client
        .blob_range(reference.repository(), blob, 0..2)
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(
        !client
            .blob_exists(reference.repository(), blob)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn https_needs_a_known_authority() {
    let mut authority_file = None;
    let registry = Registry::start_with(|dir| {
        let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert, signed.cert.pem()).unwrap();
        std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
        let (cert_shown, key_shown) = (cert.display(), key.display());
        let text = format!("  tls: {{certificate: {cert_shown}, key: {key_shown}}}\n");
        authority_file = Some(cert);
        text
    })
    .await;
    let https = BTreeSet::from([registry.host.clone()]);
    let reference = registry.reference("app:v1");

    let stranger = Client::new(ClientConfig {
        https: https.clone(),
        ..ClientConfig::default()
    });
    let error = stranger.manifest(&reference).await.unwrap_err();
    assert!(
        !error.is_retryable() && error.to_string().contains("certificate"),
        "{error}"
    );
    assert_eq!(stranger.trips().requests, 1);

    let ca_files = authority_file.into_iter().collect();
    let client = Client::new(ClientConfig {
        https,
        ca_files,
        ..ClientConfig::default()
    });
    let content = vec![3; 2_000_000];
    let (digest, layer) = push_image(&client, &reference, &content).await;
    assert_eq!(client.manifest(&reference).await.unwrap().digest, digest);
    let range = client
        .blob_range(reference.repository(), layer, 10..1_500_000)
        .await
        .unwrap();
    assert_eq!(range, &content[10..1_500_000]);

    let plain = Client::new(ClientConfig::default());
    let error = plain.manifest(&reference).await.unwrap_err();
    assert_eq!(error.status(), Some(400), "{error}");
}

/// A large blob through a relay that breaks the connections of its upload: each time somewhere
/// else, and less often with every attempt.
#[tokio::test]
async fn an_upload_survives_broken_connections() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let registry = Registry::start().await;
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = relay.local_addr().unwrap().to_string();
    let target = registry.host.clone();
    tokio::spawn(async move {
        let mut limits = [3_000_000_usize, 9_000_000, 12_000_000].into_iter();
        while let Ok((client, _)) = relay.accept().await {
            let server = tokio::net::TcpStream::connect(&target).await.unwrap();
            let mut limit = limits.next().unwrap_or(usize::MAX);
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let back = tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                });
                let mut buffer = vec![0; 1 << 16];
                while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                    let length = length.min(limit);
                    limit -= length;
                    if length == 0 || to_server.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
                back.abort();
            });
        }
    });
    let client = Client::new(ClientConfig::default());
    let reference: Reference = format!("{host}/app").parse().unwrap();
    let content: Bytes = (0..20_000_000_u32).map(|at| (at % 241) as u8).collect();
    let blob = client
        .upload_blob(reference.repository(), content.clone())
        .await
        .unwrap();
    assert!(client.trips().retries > 0);
    let direct = registry.reference("app");
    let read = client.blob(direct.repository(), blob).await.unwrap();
    assert!(read == content);
}

#[tokio::test]
async fn a_blob_is_mounted_and_deleted() {
    let registry = Registry::start().await;
    let client = Client::new(ClientConfig::default());
    let (one, two) = (registry.reference("one"), registry.reference("two"));
    let (one, two) = (one.repository(), two.repository());
    let content = Bytes::from(vec![5; 300_000]);
    let blob = client.upload_blob(one, content.clone()).await.unwrap();
    let give = |_: std::ops::Range<u64>| -> crate::BlobStream { panic!("nothing is to be sent") };
    let uploaded = client.upload(two, blob, &give, Some(one)).await.unwrap();
    assert_eq!(uploaded, crate::Uploaded::Mounted);
    assert_eq!(client.blob(two, blob).await.unwrap(), content);
    let uploaded = client.upload(two, blob, &give, Some(one)).await.unwrap();
    assert_eq!(uploaded, crate::Uploaded::WasThere);
    client.delete_blob(two, blob.digest).await.unwrap();
    assert!(!client.blob_exists(two, blob).await.unwrap());
    assert!(client.blob_exists(one, blob).await.unwrap());
}

#[tokio::test]
async fn tags_are_listed_and_manifests_deleted() {
    let registry = Registry::start().await;
    let client = Client::new(ClientConfig::default());
    let reference = registry.reference("team/app:v1");
    let (digest, _) = push_image(&client, &reference, b"layer").await;
    let manifest = client.manifest(&reference).await.unwrap();
    let repository = reference.repository();
    for tag in ["v2", "latest", "Z_1.0-x"] {
        let target = ManifestTarget::Tag(tag.to_owned());
        let content = manifest.bytes.clone();
        client
            .put_manifest(repository, &target, media::OCI_MANIFEST, content)
            .await
            .unwrap();
    }
    let tags = client.tags(repository).await.unwrap();
    assert_eq!(tags, ["Z_1.0-x", "latest", "v1", "v2"]);
    let target = ManifestTarget::Digest(digest);
    assert!(client.manifest_exists(repository, &target).await.unwrap());
    let subject = BlobRef {
        digest,
        size: manifest.bytes.len() as u64,
    };
    let one = push_referrer(&client, repository, subject, "one").await;
    let two = push_referrer(&client, repository, subject, "two").await;
    client.delete_referrer(repository, one).await.unwrap();
    let found = client
        .referrers(repository, digest, Some(TYPE))
        .await
        .unwrap();
    let found: Vec<_> = found.iter().map(|d| d.digest().to_string()).collect();
    assert_eq!(found, [two.to_string()]);
    client.delete_manifest(repository, &target).await.unwrap();
    assert!(!client.manifest_exists(repository, &target).await.unwrap());
    assert!(
        client
            .manifest(&reference)
            .await
            .unwrap_err()
            .is_not_found()
    );
    let error = client
        .delete_manifest(repository, &target)
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

/// Sixteen writers of one subject's referrers, each with a client of its own; and a lost entry
/// is healed by whoever pushes it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_of_a_fallback_tag_all_stay() {
    let registry = Registry::start().await;
    let reference = registry.reference("app:v1");
    let first = Client::new(ClientConfig::default());
    let (digest, _) = push_image(&first, &reference, b"layer").await;
    let manifest = first.manifest(&reference).await.unwrap();
    let subject = BlobRef {
        digest,
        size: manifest.bytes.len() as u64,
    };
    let repository = reference.repository();
    let pushes = (0..16).map(|n| {
        let repository = repository.clone();
        tokio::spawn(async move {
            let client = Client::new(ClientConfig::default());
            push_referrer(&client, &repository, subject, &n.to_string()).await
        })
    });
    let mut pushed = Vec::new();
    for push in futures_util::future::join_all(pushes).await {
        pushed.push(push.unwrap().to_string());
    }
    pushed.sort();
    let listed = || async {
        let found = first
            .referrers(repository, digest, Some(TYPE))
            .await
            .unwrap();
        let mut found: Vec<_> = found.iter().map(|d| d.digest().to_string()).collect();
        found.sort();
        found
    };
    assert_eq!(listed().await, pushed);

    let tag = ManifestTarget::Tag(format!("sha256-{}", digest.hex()));
    let empty = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []});
    let empty = Bytes::from(empty.to_string());
    first
        .put_manifest(repository, &tag, media::OCI_INDEX, empty)
        .await
        .unwrap();
    let again = push_referrer(&first, repository, subject, "3").await;
    assert_eq!(listed().await, [again.to_string()]);
}
