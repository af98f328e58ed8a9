use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::testing::{Reply, Request, Server, quick};

const TYPE: &str = "application/vnd.brisk.index.v1";

fn referrer(name: &str) -> Bytes {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": TYPE,
        "config": {"mediaType": media::OCI_EMPTY, "digest": Digest::of(b"{}").to_string(), "size": 2},
        "layers": [],
        "subject": {"mediaType": media::OCI_MANIFEST, "digest": subject().to_string(), "size": 1},
        "annotations": {"name": name},
    });
    Bytes::from(document.to_string())
}

fn subject() -> Digest {
    Digest::of(b"subject")
}

type Tag = Arc<Mutex<Option<Vec<u8>>>>;

/// A registry without the referrers API. `meddle` sees the number of each write of the
/// fallback tag and may change what is kept.
async fn registry(
    meddle: impl Fn(usize, &mut Option<Vec<u8>>) + Send + Sync + 'static,
) -> (Server, Tag) {
    let tag: Tag = Arc::default();
    let kept = Arc::clone(&tag);
    let path = format!("/v2/app/manifests/sha256-{}", subject().hex());
    let writes = AtomicUsize::new(0);
    let server = Server::start(move |request: &Request| {
        let mut kept = kept.lock().unwrap();
        match (request.method.as_str(), request.target == path) {
            ("GET", true) => match kept.as_ref() {
                Some(document) => {
                    Reply::ok(document.clone()).with("Content-Type", media::OCI_INDEX)
                }
                None => Reply::new(404),
            },
            ("PUT", true) => {
                *kept = Some(request.body.clone());
                meddle(writes.fetch_add(1, Ordering::SeqCst), &mut kept);
                Reply::new(201)
            }
            ("PUT", false) => Reply::new(201),
            _ => Reply::new(404),
        }
    })
    .await;
    (server, tag)
}

async fn push(server: &Server, name: &str) -> Result<Digest, crate::RegistryError> {
    let client = Client::new(quick());
    client
        .push_referrer(
            &server.repository("app"),
            media::OCI_MANIFEST,
            referrer(name),
        )
        .await
}

async fn found(server: &Server) -> Vec<String> {
    let client = Client::new(quick());
    let found = client
        .referrers(&server.repository("app"), subject(), Some(TYPE))
        .await
        .unwrap();
    let mut names: Vec<_> = found
        .iter()
        .map(|d| d.annotations().as_ref().unwrap()["name"].clone())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_referrer_is_found_through_the_tag() {
    let (server, _) = registry(|_, _| ()).await;
    let digest = push(&server, "a").await.unwrap();
    assert_eq!(digest, Digest::of(&referrer("a")));
    assert_eq!(found(&server).await, ["a"]);
    push(&server, "b").await.unwrap();
    assert_eq!(found(&server).await, ["a", "b"]);
    let writes = || {
        server
            .lines()
            .iter()
            .filter(|l| l.contains("PUT") && l.contains("sha256-"))
            .count()
    };
    let before = writes();
    push(&server, "a").await.unwrap();
    assert_eq!(
        writes(),
        before,
        "an entry that is there is not written again"
    );
}

#[tokio::test]
async fn what_others_wrote_is_kept() {
    let (server, tag) = registry(|_, _| ()).await;
    let foreign = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_INDEX,
        "annotations": {"owner": "other"},
        "manifests": [{"mediaType": "x/y", "digest": "sha512:00", "size": 1, "odd": true}],
    });
    *tag.lock().unwrap() = Some(foreign.to_string().into_bytes());
    push(&server, "a").await.unwrap();
    let kept: Value = serde_json::from_slice(tag.lock().unwrap().as_ref().unwrap()).unwrap();
    assert_eq!(kept["annotations"], foreign["annotations"]);
    assert_eq!(kept["manifests"][0], foreign["manifests"][0]);
    assert_eq!(kept["manifests"][1]["artifactType"], TYPE);
}

#[tokio::test]
async fn a_writer_whose_entry_is_lost_writes_again() {
    // Twice another writer's older state replaces ours.
    let (server, _) = registry(|write, kept| {
        if write < 2 {
            let mut other = empty_index();
            let entry = json!({"mediaType": media::OCI_MANIFEST, "artifactType": TYPE, "size": 1,
                "digest": Digest::of(b"other").to_string(), "annotations": {"name": "other"}});
            Change::Add(Digest::of(b"other"), entry).apply(&mut other);
            *kept = Some(other.to_string().into_bytes());
        }
    })
    .await;
    push(&server, "mine").await.unwrap();
    assert_eq!(found(&server).await, ["mine", "other"]);
}

#[tokio::test]
async fn writers_at_the_same_time_all_stay() {
    let (server, _) = registry(|_, _| ()).await;
    let names = ["a", "b", "c"];
    for result in futures_util::future::join_all(names.map(|name| push(&server, name))).await {
        result.unwrap();
    }
    assert_eq!(found(&server).await, names);
}

#[tokio::test]
async fn a_tag_that_never_keeps_the_entry_is_an_error() {
    let (server, _) = registry(|_, kept| *kept = None).await;
    let error = push(&server, "a").await.unwrap_err();
    assert!(
        matches!(error, RegistryError::FallbackTag { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_tag_in_other_use_is_left_alone() {
    let (server, tag) = registry(|_, _| ()).await;
    let image = json!({"mediaType": media::OCI_MANIFEST, "layers": []})
        .to_string()
        .into_bytes();
    *tag.lock().unwrap() = Some(image.clone());
    let error = push(&server, "a").await.unwrap_err();
    assert!(matches!(error, RegistryError::Malformed { .. }), "{error}");
    assert_eq!(*tag.lock().unwrap(), Some(image));
}

#[tokio::test]
async fn a_registry_that_lists_referrers_needs_no_tag() {
    let server = Server::start(|request: &Request| {
        let announced = Digest::of(&request.body).to_string();
        Reply::new(201)
            .with("OCI-Subject", &subject().to_string())
            .with("Docker-Content-Digest", &announced)
    })
    .await;
    push(&server, "a").await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_manifest_without_subject_is_not_pushed_as_referrer() {
    let (server, _) = registry(|_, _| ()).await;
    let client = Client::new(quick());
    let repository = server.repository("app");
    let content = Bytes::from_static(b"{\"layers\":[]}");
    let error = client
        .push_referrer(&repository, media::OCI_MANIFEST, content)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Malformed { .. }), "{error}");
    assert!(server.requests().is_empty());
}

/// A registry without the referrers API that honours conditions on the fallback tag.
async fn conditional_registry() -> (Server, Tag) {
    let tag: Tag = Arc::default();
    let kept = Arc::clone(&tag);
    let path = format!("/v2/app/manifests/sha256-{}", subject().hex());
    let server = Server::start(move |request: &Request| {
        let mut kept = kept.lock().unwrap();
        let etag = kept
            .as_ref()
            .map(|bytes| format!("\"{}\"", Digest::of(bytes)));
        match (request.method.as_str(), request.target == path) {
            ("GET", true) => match (kept.as_ref(), &etag) {
                (Some(document), Some(etag)) => Reply::ok(document.clone())
                    .with("Content-Type", media::OCI_INDEX)
                    .with("ETag", etag),
                _ => Reply::new(404),
            },
            ("PUT", true) => {
                let holds = match (request.header("if-match"), request.header("if-none-match")) {
                    (Some(wanted), None) => etag.as_deref() == Some(wanted),
                    (None, Some("*")) => etag.is_none(),
                    other => panic!("{other:?}"),
                };
                if !holds {
                    return Reply::new(412);
                }
                *kept = Some(request.body.clone());
                Reply::new(201)
            }
            ("PUT", false) => Reply::new(201),
            _ => Reply::new(404),
        }
    })
    .await;
    (server, tag)
}

#[tokio::test]
async fn conditions_are_used_where_the_registry_honours_them() {
    let (server, _) = conditional_registry().await;
    let names: Vec<String> = (10..22).map(|n| n.to_string()).collect();
    let pushes = names.iter().map(|name| push(&server, name));
    for result in futures_util::future::join_all(pushes).await {
        result.unwrap();
    }
    assert_eq!(found(&server).await, names);
    // No write that the registry took was lost, so that each writer wrote once with success.
    let is_write = |line: &&String| line.starts_with("PUT") && line.contains("sha256-");
    assert!(server.lines().iter().filter(is_write).count() >= names.len());
}

#[tokio::test]
async fn a_registry_that_knows_no_conditions_is_written_to_without() {
    let server = {
        let kept: Tag = Arc::default();
        let path = format!("/v2/app/manifests/sha256-{}", subject().hex());
        Server::start(move |request: &Request| {
            let mut kept = kept.lock().unwrap();
            match (request.method.as_str(), request.target == path) {
                ("GET", true) => match kept.as_ref() {
                    Some(document) => Reply::ok(document.clone())
                        .with("Content-Type", media::OCI_INDEX)
                        .with("ETag", "\"x\""),
                    None => Reply::new(404),
                },
                ("PUT", true) if request.header("if-match").is_some() => Reply::new(501),
                ("PUT", true) if request.header("if-none-match").is_some() => Reply::new(400),
                ("PUT", true) => {
                    *kept = Some(request.body.clone());
                    Reply::new(201)
                }
                ("PUT", false) => Reply::new(201),
                _ => Reply::new(404),
            }
        })
        .await
    };
    push(&server, "a").await.unwrap();
    push(&server, "b").await.unwrap();
    assert_eq!(found(&server).await, ["a", "b"]);
}

#[test]
fn waits_are_random_between_once_and_twice() {
    let waits: Vec<_> = (0..50)
        .map(|_| settle_time(Duration::from_secs(1), 0))
        .collect();
    for wait in &waits {
        assert!((4.0..=8.0).contains(&wait.as_secs_f64()), "{wait:?}");
    }
    assert!(waits.iter().any(|wait| wait != &waits[0]));
    assert!(settle_time(Duration::ZERO, 9) >= MIN_FALLBACK_SETTLE);
}
