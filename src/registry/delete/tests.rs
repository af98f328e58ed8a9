use super::*;
use crate::testing::{Reply, Request, Server, quick};

#[tokio::test]
async fn deleting_asks_for_a_deleting_token() {
    let server = Server::start(|request: &Request| {
        let host = request.header("host").unwrap();
        if request.target.starts_with("/token") {
            return Reply::json(r#"{"token":"t"}"#);
        }
        match request.header("authorization") {
            Some(_) => Reply::new(202),
            None => Reply::challenge(&format!(
                r#"Bearer realm="http://{host}/token",scope="repository:app:delete""#
            )),
        }
    })
    .await;
    let client = Client::new(quick());
    let repository = server.repository("app");
    let digest = Digest::of(b"x");
    client.delete_blob(&repository, digest).await.unwrap();
    let target = ManifestTarget::Tag("v1".to_owned());
    client.delete_manifest(&repository, &target).await.unwrap();
    let scope = server.requests()[1].query_value("scope");
    assert_eq!(scope.as_deref(), Some("repository:app:delete"));
    let lines = server.lines();
    assert_eq!(lines[2], format!("DELETE /v2/app/blobs/{digest}"));
    assert_eq!(lines[3], "DELETE /v2/app/manifests/v1");
}

#[tokio::test]
async fn a_registry_that_forbids_it_is_an_error() {
    let server = Server::start(|_| Reply::new(405)).await;
    let client = Client::new(quick());
    let target = ManifestTarget::Digest(Digest::of(b"x"));
    let deleted = client
        .delete_manifest(&server.repository("app"), &target)
        .await;
    assert_eq!(deleted.unwrap_err().status(), Some(405));
}
