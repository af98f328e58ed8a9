use serde_json::json;

use super::*;
use crate::limits::MAX_REFERRERS_PAGES;
use crate::testing::{Reply, Request, Server, quick};

const TYPE: &str = "application/vnd.brisk.index.v1";

fn entry(name: &str, artifact_type: &str) -> serde_json::Value {
    json!({
        "mediaType": media::OCI_MANIFEST,
        "digest": Digest::of(name.as_bytes()).to_string(),
        "size": 3,
        "artifactType": artifact_type,
        "annotations": {"name": name},
    })
}

fn index(entries: &[serde_json::Value]) -> Reply {
    let document = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries});
    Reply::ok(document.to_string()).with("Content-Type", media::OCI_INDEX)
}

fn subject() -> Digest {
    Digest::of(b"subject")
}

async fn names(server: &Server, artifact_type: Option<&str>) -> Result<Vec<String>, RegistryError> {
    let client = Client::new(quick());
    let found = client
        .referrers(&server.repository("app"), subject(), artifact_type)
        .await?;
    let name = |d: &Descriptor| d.annotations().as_ref().unwrap()["name"].clone();
    Ok(found.iter().map(name).collect())
}

async fn server(
    native: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    fallback: impl Fn() -> Reply + Send + Sync + 'static,
) -> Server {
    let path = format!("/v2/app/manifests/sha256-{}", subject().hex());
    Server::start(move |request| {
        if request.target == path {
            fallback()
        } else {
            native(request)
        }
    })
    .await
}

#[tokio::test]
async fn both_places_are_merged_filtered_and_each_manifest_listed_once() {
    let native = |_: &Request| index(&[entry("a", TYPE), entry("other", "x/y"), entry("b", TYPE)]);
    let fallback = || index(&[entry("b", TYPE), entry("c", TYPE), json!({"digest": "bad"})]);
    let server = server(native, fallback).await;
    assert_eq!(names(&server, Some(TYPE)).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(
        names(&server, None).await.unwrap(),
        ["a", "other", "b", "c"]
    );
    let filtered = format!(
        "/v2/app/referrers/{}?artifactType=application%2Fvnd.brisk.index.v1",
        subject()
    );
    assert!(
        server
            .requests()
            .iter()
            .any(|request| request.target == filtered)
    );
}

#[tokio::test]
async fn either_place_alone_is_enough() {
    let server_ = server(|_| Reply::new(404), || index(&[entry("c", TYPE)])).await;
    assert_eq!(names(&server_, Some(TYPE)).await.unwrap(), ["c"]);
    let server_ = server(|_| index(&[entry("a", TYPE)]), || Reply::new(404)).await;
    assert_eq!(names(&server_, Some(TYPE)).await.unwrap(), ["a"]);
    let page = |_: &Request| Reply::ok("<html>").with("Content-Type", "text/html");
    let server_ = server(page, || index(&[entry("c", TYPE)])).await;
    assert_eq!(names(&server_, Some(TYPE)).await.unwrap(), ["c"]);
    let server_ = server(|_| Reply::new(404), || Reply::new(404)).await;
    assert!(names(&server_, Some(TYPE)).await.unwrap().is_empty());
    let image = || Reply::ok(json!({"mediaType": media::OCI_MANIFEST, "layers": []}).to_string());
    let server_ = server(|_| Reply::new(404), image).await;
    assert!(names(&server_, Some(TYPE)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_failure_is_told_unless_the_other_place_answers() {
    let server_ = server(|_| Reply::new(404), || Reply::new(500)).await;
    assert_eq!(names(&server_, None).await.unwrap_err().status(), Some(500));
    let server_ = server(|_| Reply::new(503), || Reply::new(404)).await;
    assert_eq!(names(&server_, None).await.unwrap_err().status(), Some(503));
    let server_ = server(|_| index(&[entry("a", TYPE)]), || Reply::new(500)).await;
    assert_eq!(names(&server_, None).await.unwrap(), ["a"]);
    let server_ = server(|_| Reply::new(500), || index(&[entry("c", TYPE)])).await;
    assert_eq!(names(&server_, None).await.unwrap(), ["c"]);
}

#[tokio::test]
async fn pages_are_followed() {
    let native = |request: &Request| {
        let page = request
            .query_value("page")
            .unwrap_or_else(|| "0".to_owned());
        let reply = index(&[entry(&page, TYPE)]);
        let path = request.target.split('?').next().unwrap();
        match page.as_str() {
            "0" => reply.with("Link", &format!("<{path}?page=1>; rel=\"next\"")),
            "1" => reply.with("Link", "<?page=2>; rel=next, </>; rel=\"first\""),
            _ => reply.with("Link", "</>; rel=\"prev\""),
        }
    };
    let server = server(native, || Reply::new(404)).await;
    assert_eq!(names(&server, None).await.unwrap(), ["0", "1", "2"]);
}

#[tokio::test]
async fn pages_in_a_circle_or_at_another_host_are_refused() {
    let circle = |_: &Request| index(&[]).with("Link", "<?again>; rel=\"next\"");
    let server_ = server(circle, || Reply::new(404)).await;
    let error = names(&server_, None).await.unwrap_err();
    assert!(error.to_string().contains("pages"), "{error}");
    assert_eq!(server_.requests().len(), MAX_REFERRERS_PAGES + 1);
    let away = |_: &Request| index(&[]).with("Link", "<http://other.invalid/>; rel=\"next\"");
    let server_ = server(away, || Reply::new(404)).await;
    let error = names(&server_, None).await.unwrap_err();
    assert!(error.to_string().contains("another host"), "{error}");
}

#[tokio::test]
async fn all_pages_together_have_one_limit() {
    let filler = "x".repeat(1 << 20);
    let native =
        move |_: &Request| index(&[entry(&filler, TYPE)]).with("Link", "<?again>; rel=\"next\"");
    let server = server(native, || Reply::new(404)).await;
    let error = names(&server, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    assert!(server.requests().len() <= 5);
}
