use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::client::ClientConfig;
use crate::credentials::{Credential, CredentialSource};
use crate::testing::{Reply, Request, Server, quick};

/// A registry that accepts uploads; `location` is where it tells clients to go.
async fn uploads(location: &'static str) -> (Server, Arc<Mutex<BTreeMap<String, Vec<u8>>>>) {
    let blobs: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
    let store = Arc::clone(&blobs);
    let server = Server::start(move |request: &Request| {
        let mut blobs = store.lock().unwrap();
        let host = request.header("host").unwrap();
        match request.method.as_str() {
            "HEAD" => {
                let digest = request.target.rsplit('/').next().unwrap();
                Reply::new(if blobs.contains_key(digest) { 200 } else { 404 })
            }
            "POST" => Reply::new(202).with("Location", &location.replace("HOST", host)),
            "PUT" => {
                let digest = request.query_value("digest").unwrap();
                blobs.insert(digest.clone(), request.body.clone());
                Reply::new(201).with("Docker-Content-Digest", &digest)
            }
            _ => Reply::new(405),
        }
    })
    .await;
    (server, blobs)
}

#[tokio::test]
async fn a_blob_is_uploaded_once_wherever_the_location_leads() {
    for location in [
        "/upload/1?state=a%2Fb&x=",
        "http://HOST/upload/1?state=a%2Fb&x=",
        "../../../../../upload/1?state=a%2Fb&x=",
    ] {
        let (server, blobs) = uploads(location).await;
        let client = Client::new(quick());
        let repository = server.repository("team/app");
        let content = Bytes::from(vec![7_u8; 300_000]);
        let blob = client
            .upload_blob(&repository, content.clone())
            .await
            .unwrap();
        assert_eq!(blob.digest, Digest::of(&content));
        assert_eq!(blobs.lock().unwrap()[&blob.digest.to_string()], content);
        client
            .upload_blob(&repository, content.clone())
            .await
            .unwrap();
        let path = format!("HEAD /v2/team/app/blobs/{}", blob.digest);
        let start = "POST /v2/team/app/blobs/uploads/";
        assert_eq!(
            server.lines(),
            [path.as_str(), start, "PUT /upload/1", path.as_str()]
        );
        let put = &server.requests()[2];
        let kept = format!(
            "/upload/1?state=a%2Fb&x=&digest=sha256%3A{}",
            blob.digest.hex()
        );
        assert_eq!(put.target, kept);
        assert_eq!(put.header("content-length"), Some("300000"));
        assert_eq!(put.header("transfer-encoding"), None);
        assert_eq!(client.trips().bytes_sent, 300_000);
    }
}

#[tokio::test]
async fn an_empty_blob_can_be_uploaded() {
    let (server, blobs) = uploads("/upload").await;
    let blob = Client::new(quick())
        .upload_blob(&server.repository("app"), Bytes::new())
        .await
        .unwrap();
    assert!(blobs.lock().unwrap()[&blob.digest.to_string()].is_empty());
    assert_eq!(server.requests()[1].header("content-length"), Some("0"));
}

#[tokio::test]
async fn an_upload_elsewhere_gets_no_authorization() {
    let server = Server::start(|request: &Request| {
        let other = request
            .header("host")
            .unwrap()
            .replace("127.0.0.1", "localhost");
        match (
            request.method.as_str(),
            request.header("authorization").is_some(),
        ) {
            ("PUT", _) => Reply::new(201),
            (_, false) => Reply::challenge("Basic realm=\"x\""),
            ("POST", _) => Reply::new(202).with("Location", &format!("http://{other}/up")),
            _ => Reply::new(404),
        }
    })
    .await;
    let credential = Credential::Basic {
        user: "me".to_owned(),
        password: "pw".to_owned(),
    };
    let source = CredentialSource::Given {
        host: server.host(),
        credential,
    };
    let client = Client::new(ClientConfig {
        credentials: vec![source],
        ..quick()
    });
    client
        .upload_blob(&server.repository("app"), Bytes::from_static(b"x"))
        .await
        .unwrap();
    let put = server.requests().pop().unwrap();
    assert_eq!(put.line(), "PUT /up");
    assert_eq!(put.header("host"), Some(server.other_host().as_str()));
    assert_eq!(put.header("authorization"), None);
}

#[tokio::test]
async fn a_failed_upload_starts_over() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request: &Request| match request.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).with("Location", "/up"),
        _ if count.fetch_add(1, Ordering::SeqCst) == 0 => Reply::new(500),
        _ => Reply::new(201),
    })
    .await;
    let client = Client::new(quick());
    client
        .upload_blob(&server.repository("app"), Bytes::from_static(b"abc"))
        .await
        .unwrap();
    let methods: Vec<_> = server.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT", "POST", "PUT"]);
    assert_eq!(server.requests()[4].body, b"abc");
}

#[tokio::test]
async fn pushing_asks_for_a_pushing_token() {
    let server = Server::start(|request: &Request| {
        let host = request.header("host").unwrap();
        if request.target.starts_with("/token") {
            return Reply::json(r#"{"token":"t"}"#);
        }
        match request.header("authorization") {
            Some(_) => Reply::new(201),
            // As some registries do: the scope of the refused request is too narrow.
            None => Reply::challenge(&format!(
                r#"Bearer realm="http://{host}/token",scope="repository:app:pull""#
            )),
        }
    })
    .await;
    let client = Client::new(quick());
    let target = ManifestTarget::Tag("v1".to_owned());
    let repository = server.repository("app");
    let content = Bytes::from_static(b"{}");
    let (digest, listed) = client
        .put_manifest(&repository, &target, media::OCI_MANIFEST, content)
        .await
        .unwrap();
    assert_eq!((digest, listed), (Digest::of(b"{}"), false));
    let requests = server.requests();
    assert_eq!(
        requests[1].query_value("scope").as_deref(),
        Some("repository:app:pull,push")
    );
    assert_eq!(requests[2].line(), "PUT /v2/app/manifests/v1");
    assert_eq!(
        requests[2].header("content-type"),
        Some(media::OCI_MANIFEST)
    );
    assert_eq!(requests[2].body, b"{}");
}

#[tokio::test]
async fn a_manifest_is_not_pushed_under_a_digest_that_is_not_its() {
    let repository = "127.0.0.1:1/app".parse::<crate::Reference>().unwrap();
    let target = ManifestTarget::Digest(Digest::of(b"x"));
    let content = Bytes::from_static(b"{}");
    let error = Client::new(quick())
        .put_manifest(
            repository.repository(),
            &target,
            media::OCI_MANIFEST,
            content,
        )
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_redirected_head_means_that_the_blob_exists() {
    let server = Server::start(|_| Reply::redirect("http://store.invalid/")).await;
    let blob = BlobRef {
        digest: Digest::of(b"x"),
        size: 1,
    };
    assert!(
        Client::new(quick())
            .blob_exists(&server.repository("app"), blob)
            .await
            .unwrap()
    );
}

/// A server that takes a large body slowly is not mistaken for a dead one.
#[tokio::test]
async fn a_slow_upload_is_no_timeout() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let length = 16_u32 << 20;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut taken = 0;
        while taken < length as usize {
            taken += stream.read(&mut buffer).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let reply = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(reply).await.unwrap();
    });
    let reference: crate::Reference = format!("{address}/app").parse().unwrap();
    let mut config = quick();
    config.timeouts.idle = Duration::from_millis(120);
    config.retry.retries = 0;
    let client = Client::new(config);
    let url = client.url(reference.repository(), "upload").unwrap();
    let mut call = client.push_call(reference.repository(), Method::PUT, url);
    call.body = Some(Bytes::from(vec![0; length as usize]));
    let started = std::time::Instant::now();
    client.call(&call).await.unwrap();
    assert!(
        started.elapsed() > Duration::from_millis(240),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn an_entry_says_what_the_manifest_says() {
    let digest = Digest::of(b"x");
    let entry = |document: &str| {
        Referrer::parse(document.as_bytes())
            .unwrap()
            .entry(media::OCI_MANIFEST, digest, 7)
    };
    let typed =
        entry(r#"{"artifactType":"a/b","annotations":{"k":"v"},"config":{"mediaType":"c/d"}}"#);
    assert_eq!(typed["artifactType"], "a/b");
    assert_eq!(typed["annotations"]["k"], "v");
    assert_eq!(typed["size"], 7);
    assert_eq!(typed["digest"], digest.to_string());
    let untyped = entry(r#"{"artifactType":"","config":{"mediaType":"c/d"}}"#);
    assert_eq!(untyped["artifactType"], "c/d");
    let index = entry(r#"{"subject":{"digest":"sha512:00"}}"#);
    assert_eq!(index.get("artifactType"), None);
    let foreign = Referrer::parse(br#"{"subject":{"digest":"sha512:00"}}"#).unwrap();
    assert_eq!(foreign.subject_digest(), None);
}
