use super::*;
use crate::testing::{Reply, Request, Server, quick};

async fn listed(server: &Server) -> Result<Vec<String>, RegistryError> {
    Client::new(quick()).tags(&server.repository("app")).await
}

#[tokio::test]
async fn pages_are_followed_to_the_end() {
    let server = Server::start(|request: &Request| match request.query_value("last") {
        None => Reply::json(r#"{"name":"app","tags":["a","c"]}"#)
            .with("Link", "</v2/app/tags/list?last=c&n=2>; rel=\"next\""),
        Some(last) if last == "c" => {
            Reply::json(r#"{"tags":["b","c"]}"#).with("Link", "<list?last=d>; rel=next")
        }
        Some(_) => Reply::json(r#"{"tags":null}"#),
    })
    .await;
    assert_eq!(listed(&server).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(
        server.requests()[0].query_value("n").as_deref(),
        Some("1000")
    );
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn links_that_lead_nowhere_are_refused() {
    for (link, reason) in [
        // In a circle.
        ("</v2/app/tags/list>; rel=next", "without new tags"),
        // Where the credentials for this registry are not to be sent.
        (
            "<http://other.invalid/v2/app/tags/list>; rel=next",
            "another host",
        ),
        ("<file:///etc/passwd>; rel=next", "another host"),
    ] {
        let server =
            Server::start(move |_| Reply::json(r#"{"tags":["a"]}"#).with("Link", link)).await;
        let error = listed(&server).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{link}: {error}");
        assert!(server.requests().len() <= 2);
    }
}

#[tokio::test]
async fn a_list_that_never_ends_is_refused() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let page = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let tags: Vec<String> = (0..100_000).map(|n| format!("{page}-{n}")).collect();
        let body = serde_json::json!({ "tags": tags }).to_string();
        Reply::json(body).with(
            "Link",
            &format!("</v2/app/tags/list?last={page}>; rel=next"),
        )
    })
    .await;
    let error = listed(&server).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }) || error.to_string().contains("tags"));
    assert!(server.requests().len() <= 11);
}

#[tokio::test]
async fn what_is_no_tag_is_refused() {
    for body in [
        r#"{"tags":["\u001b[31mred"]}"#,
        r#"{"tags":["a/../b"]}"#,
        r#"{"tags":"a"}"#,
        "<html>",
    ] {
        let server = Server::start(move |_| Reply::json(body)).await;
        let error = listed(&server).await.unwrap_err();
        assert!(matches!(error, RegistryError::Malformed { .. }), "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
    let server = Server::start(|_| Reply::new(404)).await;
    assert!(listed(&server).await.unwrap_err().is_not_found());
}
