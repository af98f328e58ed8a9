use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use proptest::prelude::*;

use super::*;
use crate::limits::MAX_SKIPPED_BYTES;
use crate::testing::{Reply, Request, Server, quick};

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn blob_of(content: &[u8]) -> BlobRef {
    BlobRef {
        digest: Digest::of(content),
        size: content.len() as u64,
    }
}

async fn server(
    content: &[u8],
    reply: impl Fn(&[u8], &Request, usize) -> Reply + Send + Sync + 'static,
) -> Server {
    let content = content.to_vec();
    let count = AtomicUsize::new(0);
    Server::start(move |request| reply(&content, request, count.fetch_add(1, Ordering::SeqCst)))
        .await
}

/// Asks for `wanted` of 1000 bytes at a server that answers as `reply` says.
async fn range(
    wanted: Range<u64>,
    reply: impl Fn(&[u8], &Request, usize) -> Reply + Send + Sync + 'static,
) -> Result<Bytes, RegistryError> {
    let content = content(1000);
    let server = server(&content, reply).await;
    let client = Client::new(quick());
    client
        .blob_range(&server.repository("app"), blob_of(&content), wanted)
        .await
}

fn partial(content: &[u8], of: &str, range: Range<usize>) -> Reply {
    Reply::ok(&content[range])
        .status(206)
        .with("Content-Range", of)
}

#[tokio::test]
async fn a_range_is_asked_for_exactly() {
    let content = content(1000);
    let server = server(&content, |content, request, _| {
        Reply::blob(content, request)
    })
    .await;
    let client = Client::new(quick());
    let (repository, blob) = (server.repository("app"), blob_of(&content));
    let bytes = client.blob_range(&repository, blob, 10..20).await.unwrap();
    assert_eq!(bytes, &content[10..20]);
    let request = &server.requests()[0];
    assert_eq!(request.line(), format!("GET /v2/app/blobs/{}", blob.digest));
    assert_eq!(request.header("range"), Some("bytes=10-19"));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert!(
        client
            .blob_range(&repository, blob, 5..5)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn ranges_outside_the_blob_are_not_asked_for() {
    #[allow(clippy::reversed_empty_ranges)]
    for wanted in [0..1001, 1001..1001, 20..10, 0..u64::MAX] {
        let error = range(wanted, |_, _, _| panic!("nothing to ask"))
            .await
            .unwrap_err();
        assert!(
            matches!(error, RegistryError::InvalidRange { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_wrong_content_range_is_never_misread() {
    let wrong = [
        ("bytes 11-20/1000", 11..21),
        ("bytes 10-19/999", 10..20),
        ("bytes 10-18/1000", 10..19),
        ("bytes 0-9/1000", 0..10),
        ("bytes 10-19", 10..20),
    ];
    for (of, sent) in wrong {
        let reply = move |content: &[u8], _: &Request, _| partial(content, of, sent.clone());
        let error = range(10..20, reply).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::WrongRange { .. }),
            "{of}: {error}"
        );
        assert!(error.is_corrupt() && !error.is_retryable());
    }
    let none = range(10..20, |content, _, _| {
        Reply::ok(&content[10..20]).status(206)
    })
    .await;
    assert!(matches!(
        none.unwrap_err(),
        RegistryError::WrongRange { .. }
    ));
    let longer = |content: &[u8], _: &Request, _| partial(content, "bytes 10-19/1000", 10..30);
    assert!(matches!(
        range(10..20, longer).await.unwrap_err(),
        RegistryError::WrongRange { .. }
    ));
}

#[tokio::test]
async fn a_206_without_length_that_goes_on_is_refused() {
    let reply = |content: &[u8], _: &Request, _| {
        let mut body = b"14\r\n".to_vec();
        body.extend(&content[10..30]);
        body.extend(b"\r\n0\r\n\r\n");
        let headers = Reply::ok(body)
            .status(206)
            .with("Content-Range", "bytes 10-19/1000");
        headers.with("Transfer-Encoding", "chunked")
    };
    let error = range(10..20, reply).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::TooLarge { limit: 10, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_whole_blob_for_a_range_is_cut_to_it() {
    let whole = |content: &[u8], _: &Request, _| Reply::ok(content);
    let expected = content(1000);
    for wanted in [0..1000, 0..10, 10..20, 990..1000] {
        let bytes = range(wanted.clone(), whole).await.unwrap();
        assert_eq!(
            bytes,
            &expected[wanted.start as usize..wanted.end as usize],
            "{wanted:?}"
        );
    }
    let shorter = |content: &[u8], _: &Request, _| Reply::ok(&content[..999]);
    assert!(matches!(
        range(10..20, shorter).await.unwrap_err(),
        RegistryError::WrongRange { .. }
    ));
}

#[tokio::test]
async fn a_range_deep_in_a_blob_needs_a_server_with_ranges() {
    let content = content(MAX_SKIPPED_BYTES as usize + 100);
    let server = server(&content, |content, _, _| Reply::ok(content)).await;
    let client = Client::new(quick());
    let (repository, blob) = (server.repository("app"), blob_of(&content));
    let start = MAX_SKIPPED_BYTES + 1;
    let error = client
        .blob_range(&repository, blob, start..start + 5)
        .await
        .unwrap_err();
    assert!(error.is_range_unsupported(), "{error}");
    let start = MAX_SKIPPED_BYTES;
    let bytes = client
        .blob_range(&repository, blob, start..start + 5)
        .await
        .unwrap();
    assert_eq!(bytes, &content[start as usize..start as usize + 5]);
}

#[tokio::test]
async fn an_encoded_or_unsatisfiable_answer_is_refused() {
    let encoded = |content: &[u8], request: &Request, _| {
        Reply::blob(content, request).with("Content-Encoding", "gzip")
    };
    let error = range(10..20, encoded).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::ContentEncoding { .. }),
        "{error}"
    );
    let identity = |content: &[u8], request: &Request, _| {
        Reply::blob(content, request).with("Content-Encoding", "identity")
    };
    assert!(range(10..20, identity).await.is_ok());
    let unsatisfiable =
        |_: &[u8], _: &Request, _| Reply::new(416).with("Content-Range", "bytes */5");
    let error = range(10..20, unsatisfiable).await.unwrap_err();
    assert!(matches!(error, RegistryError::WrongRange { .. }), "{error}");
}

#[tokio::test]
async fn a_short_body_is_completed_from_where_it_broke() {
    let content = content(200_000);
    let server = server(&content, |content, request, count| {
        let reply = Reply::blob(content, request);
        if count == 0 {
            reply.cut_after(70_000, Duration::ZERO)
        } else {
            reply
        }
    })
    .await;
    let client = Client::new(quick());
    let wanted = 100..190_000;
    let bytes = client
        .blob_range(&server.repository("app"), blob_of(&content), wanted)
        .await
        .unwrap();
    assert_eq!(bytes, &content[100..190_000]);
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .map(|r| r.range().unwrap())
        .collect();
    assert_eq!(ranges.len(), 2);
    assert_eq!(ranges[0], 100..190_000);
    assert!(
        ranges[1].start > 100 && ranges[1].start <= 70_100,
        "{ranges:?}"
    );
    assert_eq!(ranges[1].end, 190_000);
    assert_eq!(client.trips().retries, 1);
}

#[tokio::test]
async fn a_body_that_stays_short_is_an_error() {
    let short = |content: &[u8], request: &Request, _| {
        Reply::blob(content, request).cut_after(0, Duration::ZERO)
    };
    let error = range(10..20, short).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_stream_survives_drops_and_stalls() {
    let content = content(1 << 20);
    let server = server(&content, |content, request, count| {
        let reply = Reply::blob(content, request);
        match count {
            0 => reply.cut_after(300_000, Duration::ZERO),
            1 => reply.cut_after(200_000, Duration::from_secs(30)),
            2 => Reply::new(502),
            _ => reply,
        }
    })
    .await;
    let client = Client::new(quick());
    let blob = blob_of(&content);
    let stream = client.blob_stream(&server.repository("app"), blob, 0..blob.size);
    let bytes: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert_eq!(bytes.concat(), content);
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[0].header("range"), None);
    assert!(requests[3].range().unwrap().start > 400_000);
}

#[tokio::test]
async fn a_resumed_stream_is_checked_again() {
    let content = content(4 << 20);
    let server = server(&content, |content, request, count| match count {
        0 => Reply::blob(content, request).cut_after(2 << 20, Duration::ZERO),
        _ => Reply::ok(content),
    })
    .await;
    let client = Client::new(quick());
    let blob = blob_of(&content);
    let stream = client.blob_stream(&server.repository("app"), blob, 0..blob.size);
    let error = stream.try_collect::<Vec<Bytes>>().await.unwrap_err();
    assert!(error.is_range_unsupported(), "{error}");
}

#[tokio::test]
async fn a_server_that_never_progresses_is_given_up() {
    let content = content(100_000);
    let server = server(&content, |content, request, _| {
        Reply::blob(content, request).cut_after(100, Duration::ZERO)
    })
    .await;
    let client = Client::new(quick());
    let blob = blob_of(&content);
    let stream = client.blob_stream(&server.repository("app"), blob, 0..blob.size);
    stream.try_collect::<Vec<Bytes>>().await.unwrap_err();
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn whole_blobs_are_verified() {
    let content = content(5000);
    let server = server(&content, |content, request, _| {
        Reply::blob(content, request)
    })
    .await;
    let client = Client::new(quick());
    let repository = server.repository("app");
    let blob = blob_of(&content);
    assert_eq!(client.blob(&repository, blob).await.unwrap(), content);
    let other = BlobRef {
        digest: Digest::of(b"other"),
        ..blob
    };
    let error = client.blob(&repository, other).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
    let huge = BlobRef {
        size: MAX_WHOLE_BLOB_BYTES + 1,
        ..blob
    };
    let error = client.blob(&repository, huge).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    let larger = BlobRef { size: 5001, ..blob };
    let error = client.blob(&repository, larger).await.unwrap_err();
    assert!(matches!(error, RegistryError::WrongRange { .. }), "{error}");
}

#[tokio::test]
async fn dropping_a_stream_ends_its_waiting() {
    let content = content(1000);
    let server = server(&content, |content, request, _| {
        Reply::blob(content, request).cut_after(10, Duration::from_secs(60))
    })
    .await;
    let mut config = quick();
    config.timeouts.idle = Duration::from_secs(60);
    let client = Client::new(config);
    let repository = server.repository("app");
    let read = client.blob_range(&repository, blob_of(&content), 0..1000);
    let started = std::time::Instant::now();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), read)
            .await
            .is_err()
    );
    assert!(started.elapsed() < Duration::from_secs(5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a server sends: either exactly the wanted bytes or an error.
    #[test]
    fn any_answer_gives_the_right_bytes_or_an_error(
        start in 0_u64..1000,
        length in 1_u64..300,
        status in prop::sample::select(vec![200_u16, 206, 206, 206, 204, 416]),
        shift in -2_i64..3,
        stretch in -2_i64..3,
        total in prop::sample::select(vec!["1000", "*", "999", "x"]),
        body_start in 0_usize..1000,
        exact in any::<bool>(),
        cut in prop::option::of(0_usize..50),
    ) {
        let content = content(1000);
        let wanted = start..(start + length).min(1000);
        let (first, last) = (wanted.start as i64 + shift, wanted.end as i64 - 1 + shift + stretch);
        let exact = exact || (shift == 0 && stretch == 0);
        let sent = match (status, exact) {
            (206, true) => wanted.start as usize..wanted.end as usize,
            _ => body_start..(body_start + length as usize).min(1000),
        };
        let body = if status == 200 { content.clone() } else { content[sent].to_vec() };
        let mut reply = Reply::ok(body.clone())
            .status(status)
            .with("Content-Range", &format!("bytes {first}-{last}/{total}"));
        if let Some(cut) = cut {
            reply = reply.cut_after(cut.min(body.len()), Duration::ZERO);
        }
        let reply = Arc::new(reply);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let got = runtime.block_on(range(wanted.clone(), move |_, _, _| (*reply).clone()));
        if let Ok(bytes) = got {
            prop_assert_eq!(&bytes[..], &content[wanted.start as usize..wanted.end as usize]);
        }
    }
}
