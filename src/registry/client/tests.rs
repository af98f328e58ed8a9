use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::blob::BlobRef;
use crate::credentials::Credential;
use crate::testing::{Reply, Request, Server, quick};

const CONTENT: &[u8] = b"0123456789";

fn blob() -> BlobRef {
    BlobRef {
        digest: Digest::of(CONTENT),
        size: CONTENT.len() as u64,
    }
}

fn given(server: &Server, user: &str) -> CredentialSource {
    CredentialSource::Given {
        host: server.host(),
        credential: Credential::Basic {
            user: user.to_owned(),
            password: "pw".to_owned(),
        },
    }
}

/// A registry that wants a password and redirects blobs to a store at another host name,
/// whose signatures work for `uses` requests each.
async fn redirecting(uses: usize, expired: u16) -> Server {
    let signatures = AtomicUsize::new(0);
    let used = AtomicUsize::new(0);
    Server::start(move |request: &Request| {
        if request.target.starts_with("/store/") {
            let current = signatures.load(Ordering::SeqCst).to_string();
            let fresh = request.query_value("sig") == Some(current);
            return match fresh && used.fetch_add(1, Ordering::SeqCst) < uses {
                true => Reply::blob(CONTENT, request),
                false => Reply::new(expired),
            };
        }
        if request.header("authorization").is_none() {
            return Reply::challenge("Basic realm=\"r\"");
        }
        used.store(0, Ordering::SeqCst);
        let signature = signatures.fetch_add(1, Ordering::SeqCst) + 1;
        let host = request
            .header("host")
            .unwrap()
            .replace("127.0.0.1", "localhost");
        Reply::redirect(&format!("http://{host}/store/blob?sig={signature}"))
    })
    .await
}

#[tokio::test]
async fn a_redirect_target_is_remembered_and_gets_no_authorization() {
    let server = redirecting(usize::MAX, 403).await;
    let client = Client::new(ClientConfig {
        credentials: vec![given(&server, "me")],
        ..quick()
    });
    let repository = server.repository("app");
    for at in 0..3 {
        let bytes = client
            .blob_range(&repository, blob(), at..at + 2)
            .await
            .unwrap();
        assert_eq!(bytes, &CONTENT[at as usize..at as usize + 2]);
    }
    let (store, registry): (Vec<_>, Vec<_>) = server
        .requests()
        .into_iter()
        .partition(|r| r.target.starts_with("/store/"));
    assert_eq!((registry.len(), store.len()), (2, 3));
    assert!(
        registry[1]
            .header("authorization")
            .unwrap()
            .starts_with("Basic ")
    );
    for request in store {
        assert_eq!(request.header("host"), Some(server.other_host().as_str()));
        assert_eq!(request.header("authorization"), None);
        assert!(request.header("range").is_some());
    }
    assert_eq!(client.trips().redirects, 1);
}

#[tokio::test]
async fn an_expired_target_is_renewed() {
    for expired in [400, 401, 403, 404, 410] {
        let server = redirecting(2, expired).await;
        let credentials = vec![given(&server, "me")];
        let client = Client::new(ClientConfig {
            credentials,
            ..quick()
        });
        let repository = server.repository("app");
        for _ in 0..5 {
            let bytes = client.blob_range(&repository, blob(), 4..7).await.unwrap();
            assert_eq!(bytes, &CONTENT[4..7], "{expired}");
        }
        assert_eq!(client.trips().redirects, 3, "{expired}");
        assert_eq!(client.trips().retries, 0, "{expired}");
    }
}

#[tokio::test]
async fn other_credentials_get_no_foreign_targets_or_tokens() {
    let server = redirecting(usize::MAX, 403).await;
    let client = Client::new(ClientConfig {
        credentials: vec![given(&server, "me")],
        ..quick()
    });
    let repository = server.repository("app");
    client.blob_range(&repository, blob(), 0..1).await.unwrap();
    let stranger = client.with_credentials(Vec::new());
    let error = stranger
        .blob_range(&repository, blob(), 0..1)
        .await
        .unwrap_err();
    assert!(error.is_unauthorized(), "{error}");
    assert_eq!(stranger.trips(), client.trips());
}

#[tokio::test]
async fn a_busy_target_is_asked_again_and_an_unreachable_one_replaced() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request: &Request| {
        let host = request
            .header("host")
            .unwrap()
            .replace("127.0.0.1", "localhost");
        match (
            request.target.starts_with("/v2/"),
            count.fetch_add(1, Ordering::SeqCst),
        ) {
            (true, _) => Reply::redirect(&format!("http://{host}/store/1")),
            (false, 2) => Reply::new(503),
            (false, _) => Reply::blob(CONTENT, request),
        }
    })
    .await;
    let client = Client::new(quick());
    let repository = server.repository("app");
    client.blob_range(&repository, blob(), 0..1).await.unwrap();
    client.blob_range(&repository, blob(), 0..1).await.unwrap();
    let path = format!("GET /v2/app/blobs/{}", blob().digest);
    assert_eq!(
        server.lines(),
        [
            path.as_str(),
            "GET /store/1",
            "GET /store/1",
            "GET /store/1"
        ]
    );

    let unreachable = Url::parse("http://127.0.0.1:1/gone").unwrap();
    client
        .session
        .redirects
        .put(&repository, blob().digest, unreachable);
    client.blob_range(&repository, blob(), 0..1).await.unwrap();
    assert_eq!(server.lines()[4..], [path.as_str(), "GET /store/1"]);
}

#[tokio::test]
async fn redirects_end() {
    let server = Server::start(|_| Reply::redirect("/again")).await;
    let client = Client::new(quick());
    let error = client
        .blob(&server.repository("app"), blob())
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    assert_eq!(server.requests().len(), MAX_REDIRECTS + 1);

    let server = Server::start(|_| Reply::new(302)).await;
    let error = client
        .blob(&server.repository("app"), blob())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Location"), "{error}");
}

#[test]
fn redirects_keep_to_http_and_to_encryption() {
    let join = |from: &str, location: &str| {
        join_location(&Url::parse(from).unwrap(), location).map(|url| url.to_string())
    };
    assert_eq!(
        join("https://a/v2/x", "https://b/y?z").unwrap(),
        "https://b/y?z"
    );
    assert_eq!(join("http://a/v2/x", "http://b/y").unwrap(), "http://b/y");
    assert_eq!(join("http://a/v2/x", "https://b/y").unwrap(), "https://b/y");
    assert_eq!(join("https://a/v2/x", "/y").unwrap(), "https://a/y");
    assert_eq!(join("https://a/v2/x", "//b/y").unwrap(), "https://b/y");
    for location in [
        "http://b/y?sig=secret",
        "file:///etc/passwd",
        "ftp://b/",
        "https://",
    ] {
        let error = join("https://a/v2/x", location).unwrap_err();
        assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn connections_are_reused() {
    let server = Server::start(|request| Reply::blob(CONTENT, request)).await;
    let client = Client::new(quick());
    let repository = server.repository("app");
    for _ in 0..20 {
        client.blob_range(&repository, blob(), 0..5).await.unwrap();
        client.blob(&repository, blob()).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
}

/// Proxy variables are read from the environment, which a test must not change for the whole
/// process; so the test runs itself again with a proxy named there.
#[tokio::test]
async fn proxies_of_the_environment_are_used_but_not_for_loopback() {
    const INNER: &str = "BRISK_TEST_PROXY";
    if let Ok(direct) = std::env::var(INNER) {
        let mut config = quick();
        config.plain_http.insert("plain.invalid".to_owned());
        config.retry.retries = 0;
        let client = Client::new(config);
        for host in ["plain.invalid", "secure.invalid", &direct] {
            let reference = format!("{host}/app").parse().unwrap();
            let error = client.manifest(&reference).await.unwrap_err();
            if host != "secure.invalid" {
                assert_eq!(error.status(), Some(418), "{error}");
            }
        }
        return;
    }
    let direct = Server::start(|_| Reply::new(418)).await;
    let proxy = Server::start(|_| Reply::new(418)).await;
    let test = "client::tests::proxies_of_the_environment_are_used_but_not_for_loopback";
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact"])
        .env("HTTP_PROXY", proxy.url(""))
        .env("HTTPS_PROXY", proxy.url(""))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env(INNER, direct.host())
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output)
        .await
        .unwrap()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && shown.contains("1 passed"),
        "{shown}"
    );
    let expected = [
        "GET http://plain.invalid/v2/app/manifests/latest",
        "CONNECT secure.invalid:443",
    ];
    assert_eq!(proxy.lines(), expected);
    assert_eq!(direct.lines(), ["GET /v2/app/manifests/latest"]);
}
