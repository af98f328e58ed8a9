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
    assert_eq!(methods, ["HEAD", "POST", "PUT", "HEAD", "POST", "PUT"]);
    assert_eq!(server.requests()[5].body, b"abc");
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

/// Short waits between attempts, a long one for a server that digests megabytes.
fn patient() -> ClientConfig {
    let mut config = quick();
    config.timeouts.idle = Duration::from_secs(60);
    config
}

/// What the registry of [`in_pieces`] does to the requests of an upload, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Takes half of the bytes, then breaks the connection.
    HalfThenBreak,
    /// Takes all of them, then breaks the connection.
    AllThenBreak,
    /// Takes half of them and says so.
    HalfTaken,
    /// Loses the session.
    Forgets,
}

/// A registry that takes blobs in pieces, with trouble at some of its PATCH requests. Its
/// sessions are numbered; a request of another session, or at another offset than the
/// session's, is refused.
async fn in_pieces(trouble: &'static [(usize, Trouble)]) -> (Server, Arc<Mutex<Vec<u8>>>) {
    #[derive(Default)]
    struct State {
        session: usize,
        patches: usize,
        taken: Vec<u8>,
        complete: bool,
    }
    let state: Arc<Mutex<State>> = Arc::default();
    let blob: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&blob);
    let server = Server::start(move |request: &Request| {
        let mut state = state.lock().unwrap();
        let here = format!("/upload/{}", state.session);
        let path = request.target.split('?').next().unwrap();
        let accepted = |status: u16, state: &State| {
            let last = state.taken.len().saturating_sub(1);
            Reply::new(status)
                .with("Location", &format!("/upload/{}?state=x", state.session))
                .with("Range", &format!("0-{last}"))
        };
        match request.method.as_str() {
            "HEAD" => Reply::new(if state.complete { 200 } else { 404 }),
            "POST" => {
                state.session += 1;
                state.taken.clear();
                Reply::new(202).with("Location", &format!("/upload/{}?state=x", state.session))
            }
            _ if path != here => Reply::new(404),
            "GET" => accepted(204, &state),
            "PATCH" => {
                let number = state.patches;
                state.patches += 1;
                let start = format!("{}-", state.taken.len());
                if !request.header("content-range").unwrap().starts_with(&start) {
                    return accepted(416, &state);
                }
                let found = trouble.iter().find(|(at, _)| *at == number);
                let half = request.body.len() / 2;
                match found.map(|(_, trouble)| *trouble) {
                    Some(Trouble::HalfThenBreak) => {
                        state.taken.extend_from_slice(&request.body[..half]);
                        Reply::hang_up()
                    }
                    Some(Trouble::HalfTaken) => {
                        state.taken.extend_from_slice(&request.body[..half]);
                        accepted(202, &state)
                    }
                    Some(Trouble::Forgets) => {
                        state.session += 1;
                        Reply::new(500)
                    }
                    Some(Trouble::AllThenBreak) => {
                        state.taken.extend_from_slice(&request.body);
                        Reply::hang_up()
                    }
                    None => {
                        state.taken.extend_from_slice(&request.body);
                        accepted(202, &state)
                    }
                }
            }
            "PUT" => {
                assert_eq!(request.query_value("state").as_deref(), Some("x"));
                state.taken.extend_from_slice(&request.body);
                state.complete = true;
                *kept.lock().unwrap() = state.taken.clone();
                let digest = Digest::of(&state.taken);
                Reply::new(201).with("Docker-Content-Digest", &digest.to_string())
            }
            "DELETE" => Reply::new(204),
            _ => Reply::new(405),
        }
    })
    .await;
    (server, blob)
}

/// Two pieces and a bit.
fn large() -> Bytes {
    let length = 2 * UPLOAD_PIECE_BYTES + 5;
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn a_large_blob_goes_in_pieces() {
    let (server, blob) = in_pieces(&[]).await;
    let client = Client::new(patient());
    client
        .upload_blob(&server.repository("app"), large())
        .await
        .unwrap();
    assert!(*blob.lock().unwrap() == large());
    let methods: Vec<_> = server.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["HEAD", "POST", "PATCH", "PATCH", "PATCH", "PUT"]);
    let ranges: Vec<_> = server.requests()[2..5]
        .iter()
        .map(|r| r.header("content-range").unwrap().to_owned())
        .collect();
    assert_eq!(
        ranges,
        ["0-8388607", "8388608-16777215", "16777216-16777220"]
    );
    assert_eq!(client.trips().bytes_sent, large().len() as u64);
}

#[tokio::test]
async fn an_upload_goes_on_where_the_connection_broke() {
    for (trouble, resent) in [
        (&[(1, Trouble::HalfThenBreak)][..], UPLOAD_PIECE_BYTES / 2),
        (&[(1, Trouble::AllThenBreak)], 0),
        (
            &[(0, Trouble::HalfTaken), (1, Trouble::HalfTaken)],
            UPLOAD_PIECE_BYTES * 3 / 4,
        ),
        (
            &[(0, Trouble::HalfThenBreak), (3, Trouble::AllThenBreak)],
            UPLOAD_PIECE_BYTES / 2,
        ),
    ] {
        let (server, blob) = in_pieces(trouble).await;
        let client = Client::new(patient());
        client
            .upload_blob(&server.repository("app"), large())
            .await
            .unwrap();
        assert!(*blob.lock().unwrap() == large(), "{trouble:?}");
        let posts = server
            .lines()
            .iter()
            .filter(|l| l.starts_with("POST"))
            .count();
        assert_eq!(posts, 1, "{trouble:?}: the session was given up");
        let sent = client.trips().bytes_sent;
        assert!(sent <= large().len() as u64 + resent, "{trouble:?}: {sent}");
    }
}

#[tokio::test]
async fn a_lost_session_begins_anew() {
    let (server, blob) = in_pieces(&[(1, Trouble::Forgets)]).await;
    Client::new(patient())
        .upload_blob(&server.repository("app"), large())
        .await
        .unwrap();
    assert!(*blob.lock().unwrap() == large());
    let posts = server
        .lines()
        .iter()
        .filter(|l| l.starts_with("POST"))
        .count();
    assert_eq!(posts, 2);
}

#[tokio::test]
async fn content_that_is_not_the_blobs_is_never_completed() {
    for size in [3, large().len()] {
        let (server, _) = in_pieces(&[]).await;
        let content = large().slice(..size);
        let blob = BlobRef {
            digest: Digest::of(b"another"),
            size: size as u64,
        };
        let give = |range: Range<u64>| -> BlobStream {
            let piece = content.slice(range.start as usize..range.end as usize);
            Box::pin(futures_util::stream::iter([Ok(piece)]))
        };
        let error = Client::new(patient())
            .upload(&server.repository("app"), blob, &give, None)
            .await
            .unwrap_err();
        assert!(
            matches!(error, RegistryError::DigestMismatch { .. }),
            "{error}"
        );
        let lines = server.lines();
        assert!(
            !lines.iter().any(|line| line.starts_with("PUT")),
            "{lines:?}"
        );
        assert!(lines.last().unwrap().starts_with("DELETE"), "{lines:?}");
    }
}

#[tokio::test]
async fn content_that_ends_early_is_never_completed() {
    let (server, _) = in_pieces(&[]).await;
    let blob = BlobRef {
        digest: Digest::of(b"abc"),
        size: 3,
    };
    let give = |_: Range<u64>| -> BlobStream {
        Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(b"ab"))]))
    };
    let client = Client::new(patient());
    let repository = server.repository("app");
    let uploaded = client.upload(&repository, blob, &give, None).await;
    let error = uploaded.unwrap_err();
    assert!(
        matches!(error, RegistryError::ShortBody { got: 2, .. }),
        "{error}"
    );
    assert!(!server.lines().iter().any(|line| line.starts_with("PUT")));
}

#[tokio::test]
async fn a_blob_is_taken_from_another_repository_where_the_registry_does_that() {
    for status in [201, 202, 401, 404, 405] {
        let server = Server::start(move |request: &Request| {
            let mounts = request.query_value("mount").is_some();
            match request.method.as_str() {
                "HEAD" => Reply::new(404),
                "POST" if mounts => Reply::new(status).with("Location", "/up"),
                "POST" => Reply::new(202).with("Location", "/up"),
                _ => Reply::new(201),
            }
        })
        .await;
        let client = Client::new(patient());
        let (here, other) = (server.repository("app"), server.repository("team/base"));
        let give = |_: Range<u64>| -> BlobStream {
            Box::pin(futures_util::stream::iter([Ok(Bytes::from_static(b"abc"))]))
        };
        let blob = BlobRef {
            digest: Digest::of(b"abc"),
            size: 3,
        };
        let uploaded = client
            .upload(&here, blob, &give, Some(&other))
            .await
            .unwrap();
        let requests = server.requests();
        let mount = &requests[1];
        assert_eq!(mount.query_value("from").as_deref(), Some("team/base"));
        assert_eq!(mount.query_value("mount"), Some(blob.digest.to_string()));
        let methods: Vec<_> = requests.iter().map(|r| r.method.as_str()).collect();
        match status {
            201 => {
                assert_eq!(uploaded, Uploaded::Mounted);
                assert_eq!(methods, ["HEAD", "POST"]);
            }
            // The session that it opened is used.
            202 => {
                assert_eq!(uploaded, Uploaded::Sent);
                assert_eq!(methods, ["HEAD", "POST", "PUT"]);
            }
            _ => {
                assert_eq!(uploaded, Uploaded::Sent);
                assert_eq!(methods, ["HEAD", "POST", "POST", "PUT"]);
            }
        }
    }
}
