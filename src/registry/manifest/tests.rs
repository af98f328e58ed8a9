use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::testing::{Reply, Server, quick};

const DOCUMENT: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

async fn read(reply: Reply) -> Result<Manifest, RegistryError> {
    let server = Server::start(move |_| reply.clone()).await;
    Client::new(quick())
        .manifest(&server.reference("app:v1"))
        .await
}

#[tokio::test]
async fn a_tag_is_read_and_its_digest_computed() {
    let server = Server::start(|_| {
        Reply::ok(DOCUMENT)
            .with(
                "Content-Type",
                "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
            )
            .with(
                "Docker-Content-Digest",
                &Digest::of(DOCUMENT.as_bytes()).to_string(),
            )
    })
    .await;
    let client = Client::new(quick());
    let manifest = client
        .manifest(&server.reference("team/app:v1"))
        .await
        .unwrap();
    assert_eq!(manifest.digest, Digest::of(DOCUMENT.as_bytes()));
    assert_eq!(manifest.media_type, media::OCI_MANIFEST);
    assert_eq!(manifest.bytes, DOCUMENT);
    let request = &server.requests()[0];
    assert_eq!(request.line(), "GET /v2/team/app/manifests/v1");
    for accepted in [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_LIST] {
        assert!(
            request.header("accept").unwrap().contains(accepted),
            "{accepted}"
        );
    }
    assert!(request.header("user-agent").unwrap().starts_with("brisk/"));
    assert_eq!(client.trips().requests, 1);
    assert_eq!(client.trips().bytes_received, DOCUMENT.len() as u64);
}

#[tokio::test]
async fn content_that_is_not_the_digests_is_refused() {
    let server = Server::start(|_| Reply::ok(DOCUMENT)).await;
    let wanted = Digest::of(b"something else");
    let reference = server.reference(&format!("app@{wanted}"));
    let error = Client::new(quick()).manifest(&reference).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { expected, actual, .. }
            if expected == wanted && actual == Digest::of(DOCUMENT.as_bytes())),
        "{error}"
    );
    assert!(error.is_corrupt() && !error.is_retryable());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_wrong_announced_digest_is_refused() {
    let announced = Digest::of(b"x").to_string();
    let error = read(Reply::ok(DOCUMENT).with("Docker-Content-Digest", &announced)).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, RegistryError::AnnouncedDigest { .. }),
        "{error}"
    );
    let other = format!("sha512:{}", "0".repeat(128));
    assert!(
        read(Reply::ok(DOCUMENT).with("Docker-Content-Digest", &other))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_oversize_manifest_is_refused_announced_or_not() {
    let big = vec![b' '; (MAX_MANIFEST_BYTES + 1) as usize];
    let error = read(Reply::ok(big.clone())).await.unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::TooLarge {
                limit: MAX_MANIFEST_BYTES,
                ..
            }
        ),
        "{error}"
    );

    let mut chunked = Vec::new();
    for piece in big.chunks(1 << 20) {
        chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let error = read(Reply::ok(chunked).with("Transfer-Encoding", "chunked"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::TooLarge {
                limit: MAX_MANIFEST_BYTES,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_manifest_is_told_apart_with_the_registrys_words() {
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let error = read(Reply::json(body).status(404)).await.unwrap_err();
    assert!(error.is_not_found() && !error.is_retryable());
    assert!(
        error
            .to_string()
            .ends_with("HTTP 404: MANIFEST_UNKNOWN manifest unknown"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unavailable_registry_is_asked_again() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(503),
        1 => Reply::new(429).with("Retry-After", "0"),
        _ => Reply::ok(DOCUMENT),
    })
    .await;
    let client = Client::new(quick());
    client.manifest(&server.reference("app")).await.unwrap();
    assert_eq!(client.trips().retries, 2);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429).with("Retry-After", "1"),
        _ => Reply::ok(DOCUMENT),
    })
    .await;
    let started = std::time::Instant::now();
    Client::new(quick())
        .manifest(&server.reference("app"))
        .await
        .unwrap();
    assert!(
        started.elapsed() >= Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_retry_after_beyond_the_limit_ends_the_attempts() {
    let server = Server::start(|_| Reply::new(429).with("Retry-After", "3600")).await;
    let client = Client::new(quick());
    let error = client.manifest(&server.reference("app")).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_the_limit() {
    let server = Server::start(|_| Reply::ok(DOCUMENT).cut_after(3, Duration::from_secs(5))).await;
    let mut config = quick();
    config.timeouts.idle = Duration::from_millis(50);
    config.retry.retries = 1;
    let started = std::time::Instant::now();
    let error = Client::new(config)
        .manifest(&server.reference("app"))
        .await
        .unwrap_err();
    assert!(error.is_timeout() && error.is_retryable(), "{error}");
    assert_eq!(server.requests().len(), 2);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn nobody_listening_is_a_connection_error() {
    let reference: Reference = "127.0.0.1:1/app".parse().unwrap();
    let error = Client::new(quick()).manifest(&reference).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1/v2/app"), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn the_media_type_is_what_server_and_document_agree_on() {
    let index = format!(r#"{{"mediaType":"{}"}}"#, media::OCI_INDEX);
    let bare = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
    let bare_index = br#"{"schemaVersion":2,"manifests":[]}"#;
    let kind = |document: &[u8], served| media_type(document, served);
    assert_eq!(kind(index.as_bytes(), None).unwrap(), media::OCI_INDEX);
    assert_eq!(
        kind(index.as_bytes(), Some("application/json")).unwrap(),
        media::OCI_INDEX
    );
    assert_eq!(
        kind(bare, Some(media::OCI_MANIFEST)).unwrap(),
        media::OCI_MANIFEST
    );
    assert_eq!(kind(bare, None).unwrap(), media::OCI_MANIFEST);
    assert_eq!(kind(bare_index, None).unwrap(), media::OCI_INDEX);
    assert!(kind(index.as_bytes(), Some(media::OCI_MANIFEST)).is_err());
    assert!(kind(br#"{"manifests":[],"layers":[]}"#, Some(media::OCI_INDEX)).is_err());
    assert!(
        kind(br#"{"schemaVersion":1,"fsLayers":[]}"#, None)
            .unwrap_err()
            .contains("schema 1")
    );
    assert!(kind(b"[]", None).is_err());
    assert!(kind(b"<html>", Some(media::OCI_MANIFEST)).is_err());
}
