use super::*;
use crate::media;
use crate::testing::{Reply, Request, Server, quick};

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

/// A server that takes a large body slowly is not mistaken for a dead one.
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
