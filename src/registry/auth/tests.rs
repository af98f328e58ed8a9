use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::client::{Client, ClientConfig};
use crate::host::Schemes;
use crate::manifest::Manifest;
use crate::testing::{Reply, Request, Server, quick};

const DOCUMENT: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

fn given(server: &Server, credential: Credential) -> CredentialSource {
    CredentialSource::Given {
        host: server.host(),
        credential,
    }
}

fn basic(user: &str, password: &str) -> Credential {
    Credential::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    }
}

fn client(credentials: Vec<CredentialSource>) -> Client {
    Client::new(ClientConfig {
        credentials,
        ..quick()
    })
}

async fn read(client: &Client, server: &Server, name: &str) -> Result<Manifest, RegistryError> {
    client.manifest(&server.reference(name)).await
}

fn is_token(request: &Request) -> bool {
    request.target.starts_with("/token")
}

/// A registry that wants a token of its own service at `/token`. `grant` answers requests
/// for tokens, `accept` decides on the Authorization header.
async fn token_registry(
    grant: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    accept: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Server {
    let grants = AtomicUsize::new(0);
    Server::start(move |request: &Request| {
        if is_token(request) {
            return grant(request, grants.fetch_add(1, Ordering::SeqCst));
        }
        let host = request.header("host").unwrap();
        let name = request.target.trim_start_matches("/v2/").split('/').next().unwrap();
        if request.header("authorization").is_some_and(&accept) {
            return Reply::json(DOCUMENT);
        }
        Reply::challenge(&format!(
            r#"Bearer realm="http://{host}/token?x=1",service="the, service",scope="repository:{name}:pull""#
        ))
    })
    .await
}

fn token(text: &str, expires_in: u64) -> Reply {
    Reply::json(format!(r#"{{"token":"{text}","expires_in":{expires_in}}}"#))
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_once_and_then_ahead() {
    let server = token_registry(|_, _| token("t", 300), |header| header == "Bearer t").await;
    let client = client(Vec::new());
    read(&client, &server, "one").await.unwrap();
    read(&client, &server, "one").await.unwrap();
    // The registry is known to ask: no refusal first.
    read(&client, &server, "two").await.unwrap();
    let requests = server.requests();
    let shown: Vec<_> = requests
        .iter()
        .map(|r| (is_token(r), r.headers.contains_key("authorization")))
        .collect();
    let expected = [
        (false, false),
        (true, false),
        (false, true),
        (false, true),
        (true, false),
        (false, true),
    ];
    assert_eq!(shown, expected);
    let query = BTreeMap::from_iter(requests[1].query());
    assert_eq!(query["x"], "1");
    assert_eq!(query["service"], "the, service");
    assert_eq!(query["scope"], "repository:one:pull");
    assert_eq!(
        requests[4].query_value("scope").unwrap(),
        "repository:two:pull"
    );
    assert_eq!(client.trips().token_requests, 2);
}

#[tokio::test]
async fn a_password_goes_to_the_token_service_only() {
    let grant = |request: &Request, _| match request.header("authorization") {
        Some(header) if header == format!("Basic {}", STANDARD.encode("me:s3:cret")) => {
            Reply::json(r#"{"access_token":"t"}"#)
        }
        _ => Reply::new(401),
    };
    let server = token_registry(grant, |header| header == "Bearer t").await;
    let client = client(vec![given(&server, basic("me", "s3:cret"))]);
    read(&client, &server, "app").await.unwrap();
    let requests = server.requests();
    assert_eq!(requests[1].query_value("account").as_deref(), Some("me"));
    assert_eq!(requests[2].header("authorization"), Some("Bearer t"));
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let grant = |request: &Request, _| {
        let body = String::from_utf8(request.body.clone()).unwrap();
        let expected = "grant_type=refresh_token&service=the%2C+service&client_id=brisk\
                        &scope=repository%3Aapp%3Apull&refresh_token=re%26fresh";
        match (request.method.as_str(), body == expected) {
            ("POST", true) => token("t", 300),
            _ => Reply::new(400),
        }
    };
    let server = token_registry(grant, |header| header == "Bearer t").await;
    let client = client(vec![given(
        &server,
        Credential::IdentityToken("re&fresh".to_owned()),
    )]);
    read(&client, &server, "app").await.unwrap();
    let form = server.requests()[1]
        .header("content-type")
        .unwrap()
        .to_owned();
    assert_eq!(form, "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn basic_and_registry_tokens_need_no_service() {
    let cases = [
        (
            "Basic realm=\"x\"",
            basic("me", "pw"),
            format!("Basic {}", STANDARD.encode("me:pw")),
        ),
        (
            "Bearer realm=\"http://unused.invalid/\"",
            Credential::RegistryToken("own".to_owned()),
            "Bearer own".to_owned(),
        ),
    ];
    for (challenge, credential, expected) in cases {
        let server = Server::start(move |request| match request.header("authorization") {
            Some(header) if header == expected => Reply::json(DOCUMENT),
            Some(_) => Reply::new(500),
            None => Reply::challenge(challenge),
        })
        .await;
        let client = client(vec![given(&server, credential)]);
        read(&client, &server, "app").await.unwrap();
        read(&client, &server, "app").await.unwrap();
        assert_eq!(server.requests().len(), 3);
        assert_eq!(client.trips().token_requests, 0);
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let grant = |_: &Request, count| token(&format!("t{count}"), 1);
    let server = token_registry(grant, |header| header.starts_with("Bearer t")).await;
    let client = client(Vec::new());
    read(&client, &server, "app").await.unwrap();
    read(&client, &server, "app").await.unwrap();
    assert_eq!(client.trips().token_requests, 1);
    tokio::time::sleep(Duration::from_millis(800)).await;
    read(&client, &server, "app").await.unwrap();
    assert_eq!(client.trips().token_requests, 2);
    let last = server.requests().pop().unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer t1"));
    // One refusal at the very start, none on the way: 3 reads, 2 tokens, 1 refusal.
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn a_token_that_stops_working_is_replaced() {
    let valid = Arc::new(AtomicUsize::new(0));
    let current = Arc::clone(&valid);
    let accept =
        move |header: &str| header == format!("Bearer t{}", current.load(Ordering::SeqCst));
    let granted = Arc::clone(&valid);
    let grant = move |_: &Request, _| token(&format!("t{}", granted.load(Ordering::SeqCst)), 3600);
    let server = token_registry(grant, accept).await;
    let client = client(Vec::new());
    for round in 0..3 {
        valid.store(round, Ordering::SeqCst);
        read(&client, &server, "app").await.unwrap();
    }
    assert_eq!(client.trips().token_requests, 3);
    assert_eq!(client.trips().retries, 0);
}

#[tokio::test]
async fn a_403_for_a_header_that_worked_is_an_expiry() {
    let expired = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&expired);
    let server = Server::start(move |request| match request.header("authorization") {
        None => Reply::challenge("Basic realm=\"x\""),
        Some(_) if state.swap(0, Ordering::SeqCst) == 1 => Reply::new(403),
        Some(_) => Reply::json(DOCUMENT),
    })
    .await;
    let client = client(vec![given(&server, basic("AWS", "pw"))]);
    read(&client, &server, "app").await.unwrap();
    expired.store(1, Ordering::SeqCst);
    read(&client, &server, "app").await.unwrap();
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn many_requests_cause_one_token_request() {
    let server = token_registry(|_, _| token("t", 300), |header| header == "Bearer t").await;
    let client = client(Vec::new());
    let reads = (0..20).map(|_| read(&client, &server, "app"));
    for result in futures_util::future::join_all(reads).await {
        result.unwrap();
    }
    assert_eq!(client.trips().token_requests, 1);
}

#[tokio::test]
async fn many_requests_share_a_failure() {
    let server = token_registry(|_, _| Reply::new(503), |_| false).await;
    let client = client(Vec::new());
    let reads = (0..20).map(|_| read(&client, &server, "app"));
    for result in futures_util::future::join_all(reads).await {
        assert!(result.unwrap_err().is_retryable());
    }
    // Four attempts each, not all at the same moments: far fewer than eighty.
    assert!(client.trips().token_requests <= 40, "{:?}", client.trips());
}

#[tokio::test]
async fn credentials_are_tried_in_turn() {
    let grant = |request: &Request, _| {
        let user = request.query_value("account").unwrap_or_default();
        match user.as_str() {
            "unknown" => Reply::new(401),
            user => token(user, 300),
        }
    };
    let server = token_registry(grant, |header| header == "Bearer right").await;
    let sources = ["unknown", "useless", "right"].map(|user| given(&server, basic(user, "pw")));
    let mut all = vec![CredentialSource::AuthFile("/nonexistent/auth.json".into())];
    all.extend(sources);
    let client = client(all);
    read(&client, &server, "app").await.unwrap();
    let users: Vec<_> = server
        .requests()
        .iter()
        .filter_map(|r| r.query_value("account"))
        .collect();
    assert_eq!(users, ["unknown", "useless", "right"]);
    read(&client, &server, "app").await.unwrap();
    assert_eq!(client.trips().token_requests, 3);
}

#[tokio::test]
async fn public_images_survive_bad_credentials() {
    let grant = |request: &Request, _| match request.header("authorization") {
        Some(_) => Reply::new(401),
        None => token("anonymous", 300),
    };
    let server = token_registry(grant, |header| header == "Bearer anonymous").await;
    let client = client(vec![given(&server, basic("old", "pw"))]);
    read(&client, &server, "app").await.unwrap();
}

#[tokio::test]
async fn a_refused_repository_is_an_error_that_names_what_was_tried() {
    let server = token_registry(|_, _| token("t", 300), |_| false).await;
    let client = client(vec![
        given(&server, basic("me", "hunter2")),
        CredentialSource::DockerConfig("/nonexistent".into()),
    ]);
    let error = read(&client, &server, "app").await.unwrap_err();
    assert!(error.is_unauthorized() && !error.is_retryable());
    let shown = format!("{error} {error:?}");
    for part in [
        "/app",
        "401",
        "given for",
        "anonymous: refused",
        "/nonexistent/config.json",
    ] {
        assert!(shown.contains(part), "{part} not in {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(server.requests().len(), 5);
    let open = client.with_credentials(Vec::new());
    assert!(
        read(&open, &server, "app")
            .await
            .unwrap_err()
            .is_unauthorized()
    );
}

#[tokio::test]
async fn a_refusal_without_challenge_is_an_error() {
    let server = Server::start(|_| Reply::new(403)).await;
    let error = read(&client(Vec::new()), &server, "app").await.unwrap_err();
    assert_eq!(error.status(), Some(403));
    assert!(error.is_unauthorized());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn ever_new_challenges_end() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if is_token(request) {
            return token("t", 300);
        }
        let scope = count.fetch_add(1, Ordering::SeqCst);
        let host = request.header("host").unwrap();
        Reply::challenge(&format!(
            r#"Bearer realm="http://{host}/token",scope="repository:app{scope}:pull""#
        ))
    })
    .await;
    let error = read(&client(Vec::new()), &server, "app").await.unwrap_err();
    assert!(error.is_unauthorized(), "{error}");
    assert!(server.requests().len() <= 20);
}

#[tokio::test]
async fn bad_token_responses_are_refused() {
    let big = format!(r#"{{"token":"{}"}}"#, "x".repeat(1 << 20));
    for body in [
        big.as_str(),
        "{}",
        "{\"token\":\"\"}",
        "<html>",
        "{\"token\":\"a\\nb\"}",
    ] {
        let body = body.to_owned();
        let server = token_registry(move |_, _| Reply::json(body.clone()), |_| true).await;
        let error = read(&client(Vec::new()), &server, "app").await.unwrap_err();
        assert!(error.is_unauthorized(), "{error}");
    }
}

#[tokio::test]
async fn credentials_only_go_to_encrypted_token_services() {
    let server = |host: &str| Endpoint::plain(host, &Schemes::default()).unwrap();
    let (remote, local) = (server("r.example"), server("localhost:5000"));
    assert!(realm_of(&remote, "https://auth.example/token").is_ok());
    assert!(realm_of(&local, "http://localhost:5001/token").is_ok());
    for realm in ["http://auth.example/token", "/token", "file:///x", ""] {
        let error = realm_of(&remote, realm).unwrap_err();
        assert!(matches!(error, RegistryError::Challenge { .. }), "{error}");
    }
}
