use std::fs;
use std::path::Path;

use super::*;
use crate::blob::BlobRef;
use crate::client::{Client, ClientConfig};
use crate::testing::{Reply, Request, Server, quick};
use index_format::Digest;

const CONTENT: &[u8] = b"0123456789";
const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#;

/// A registry with one tag and one blob, below any path that ends in `/v2/`.
async fn registry(name: &'static str) -> Server {
    Server::start(move |request: &Request| {
        let path = request.target.split('?').next().unwrap_or_default();
        if path.contains("/manifests/") {
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            return Reply::ok(MANIFEST).with("Content-Type", media_type);
        }
        match path.contains("/blobs/") {
            true => Reply::blob(CONTENT, request).with("Server", name),
            false => Reply::new(404),
        }
    })
    .await
}

fn write(directory: &Path, host: &str, text: &str) {
    let place = directory.join(host);
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("hosts.toml"), text).unwrap();
}

fn client(directory: &Path) -> Client {
    Client::new(ClientConfig {
        hosts_dirs: vec![directory.to_path_buf()],
        ..quick()
    })
}

fn blob() -> BlobRef {
    BlobRef {
        digest: Digest::of(CONTENT),
        size: CONTENT.len() as u64,
    }
}

fn lines(server: &Server) -> Vec<String> {
    server.requests().iter().map(Request::line).collect()
}

#[tokio::test]
async fn mirrors_are_tried_in_the_order_of_the_file_and_the_registry_last() {
    let (own, second) = (registry("own").await, registry("second").await);
    let refusing = Server::start(|_: &Request| Reply::new(403)).await;
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[host.'{}']\n[host.'{}']\noverride_path = true\n[host.'{}'.header]\nX-Node = ['a', 'b']\n",
        refusing.url(""),
        second.url("/proxy/hub"),
        second.url("/proxy/hub"),
    );
    write(directory.path(), &own.host(), &text);
    let client = client(directory.path());
    let manifest = client.manifest(&own.reference("app")).await.unwrap();
    assert_eq!(manifest.bytes, MANIFEST);
    assert_eq!(lines(&refusing), ["GET /v2/app/manifests/latest"]);
    assert_eq!(lines(&second), ["GET /proxy/hub/app/manifests/latest"]);
    let request = &second.requests()[0];
    assert_eq!(request.query_value("ns"), Some(own.host()));
    assert_eq!(request.header("x-node"), Some("b"));
    assert!(own.requests().is_empty());

    // A mirror that is gone is passed over, and the registry itself needs no `ns`.
    let text = "[host.'http://127.0.0.1:1']\n".to_owned();
    write(directory.path(), &own.host(), &text);
    client.blob(&own.repository("app"), blob()).await.unwrap();
    assert_eq!(lines(&second).len(), 1);
    assert_eq!(own.requests()[0].query_value("ns"), None);
}

#[tokio::test]
async fn what_a_tag_means_is_asked_of_those_who_may_say_it() {
    let (own, mirror) = (registry("own").await, registry("mirror").await);
    let directory = tempfile::tempdir().unwrap();
    let text = format!("[host.'{}']\ncapabilities = ['pull']\n", mirror.url(""));
    write(directory.path(), &own.host(), &text);
    let client = client(directory.path());
    let repository = own.repository("app");
    let manifest = client.manifest(&own.reference("app")).await.unwrap();
    let target = crate::ManifestTarget::Digest(manifest.digest);
    client.manifest_at(&repository, &target).await.unwrap();
    client.blob(&repository, blob()).await.unwrap();
    let referrers = client.referrers(&repository, manifest.digest, None).await;
    assert!(referrers.unwrap().is_empty());
    let asked = lines(&mirror);
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(
        asked.iter().all(|line| line.contains("sha256:")),
        "{asked:?}"
    );
    let asked = lines(&own);
    assert!(
        !asked.iter().any(|line| line.contains("/blobs/")),
        "{asked:?}"
    );
    assert!(
        asked.iter().any(|line| line.contains("/referrers/")),
        "{asked:?}"
    );

    // Where nobody may, that is said.
    let text = format!("capabilities = ['push']\n{text}");
    write(directory.path(), &own.host(), &text);
    let error = client.manifest(&own.reference("app")).await.unwrap_err();
    assert!(error.to_string().contains("Resolve"), "{error}");
}

#[tokio::test]
async fn each_server_gets_its_own_credentials() {
    let guarded = |name: &'static str| {
        Server::start(move |request: &Request| {
            match request.header("authorization") {
                None => Reply::challenge("Basic realm=\"r\""),
                // base64 of NAME:pw
                Some(header) if header.contains(name) => Reply::blob(CONTENT, request),
                Some(_) => Reply::new(403),
            }
        })
    };
    let (own, mirror) = (guarded("b3duOnB3").await, guarded("bWlycm9yOnB3").await);
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        &own.host(),
        &format!("[host.'{}']\n", mirror.url("")),
    );
    let given = |server: &Server, user: &str| crate::CredentialSource::Given {
        host: server.host(),
        credential: crate::Credential::Basic {
            user: user.to_owned(),
            password: "pw".to_owned(),
        },
    };
    let config = ClientConfig {
        hosts_dirs: vec![directory.path().to_path_buf()],
        credentials: vec![given(&own, "own"), given(&mirror, "mirror")],
        ..quick()
    };
    let client = Client::new(config);
    client.blob(&own.repository("app"), blob()).await.unwrap();
    assert_eq!(mirror.requests().len(), 2);
    assert!(own.requests().is_empty());
}

fn servers(text: &str, host: &str) -> Result<Vec<Endpoint>, String> {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), host, text);
    let path = directory.path().join(host).join("hosts.toml");
    file::read(&path, host, &Schemes::default())
}

#[test]
fn every_setting_is_read() {
    let text = r#"
server = "https://registry-1.docker.io"
ca = "own.crt"
[host."https://mirror.test/hub"]
capabilities = ["pull", "resolve"]
ca = ["a.pem", "/etc/b.pem"]
client = [["c.cert", "c.key"]]
skip_verify = true
[host."plain.test:5000"]
client = "both.pem"
[host."localhost:5000/v2"]
dial_timeout = "3s"
"#;
    let servers = servers(text, "docker.io").unwrap();
    let bases: Vec<&str> = servers.iter().map(|server| server.base.as_str()).collect();
    assert_eq!(
        bases,
        [
            "https://mirror.test/hub/v2/",
            "https://plain.test:5000/v2/",
            "http://localhost:5000/v2/",
            "https://registry-1.docker.io/v2/"
        ]
    );
    let hosts: Vec<&str> = servers.iter().map(|server| server.host.as_str()).collect();
    assert_eq!(
        hosts,
        [
            "mirror.test",
            "plain.test:5000",
            "localhost:5000",
            "docker.io"
        ]
    );
    let namespaces: Vec<bool> = servers.iter().map(|s| s.namespace.is_some()).collect();
    assert_eq!(namespaces, [true, true, true, false]);
    let first = &servers[0];
    assert!(!first.capabilities.has(Capability::Push));
    let tls = first.tls.as_ref().unwrap();
    assert!(tls.skip_verify);
    assert!(tls.ca_files[0].ends_with("docker.io/a.pem"));
    assert_eq!(tls.ca_files[1], Path::new("/etc/b.pem"));
    let pair = tls.client.as_ref().unwrap();
    assert!(pair.key.ends_with("docker.io/c.key"));
    let pair = servers[1].tls.as_ref().unwrap().client.clone().unwrap();
    assert_eq!(pair.certificate, pair.key);
    assert!(servers[2].tls.is_none());
    assert!(servers[3].tls.as_ref().unwrap().ca_files[0].ends_with("own.crt"));
}

#[test]
fn mistakes_are_named() {
    for (text, words) in [
        ("server = 1", "line 1"),
        ("\n[host.'ftp://a']\n", "ftp://a"),
        ("[host.'https://a']\ncapabilities = ['pul']\n", "pul"),
        ("[host.'https://u:p@a']\n", "credentials"),
        ("[host.'https://a'.header]\nx = 1\n", "header \"x\""),
        ("[host.'https://a']\nca = 1\n", "https://a"),
        ("[host\n", "line 1"),
    ] {
        let error = servers(text, "r.test").unwrap_err();
        assert!(error.contains(words), "{text:?}: {error}");
    }
}

#[tokio::test]
async fn a_directory_is_found_by_name_port_or_default() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = Hosts::new(vec![directory.path().to_path_buf()]);
    let first = |host: &str| {
        let of = hosts.of(host, &Schemes::default(), Capability::Pull);
        let servers = of.unwrap();
        servers.iter().next().unwrap().base.to_string()
    };
    assert_eq!(first("r.test:5000"), "https://r.test:5000/v2/");
    write(directory.path(), "_default", "[host.'https://d']\n");
    assert_eq!(first("r.test:5000"), "https://d/v2/");
    write(directory.path(), "r.test:5000", "[host.'https://raw']\n");
    assert_eq!(first("r.test:5000"), "https://raw/v2/");
    write(directory.path(), "r.test_5000_", "[host.'https://port']\n");
    assert_eq!(first("r.test:5000"), "https://port/v2/");
    assert_eq!(first("other.test"), "https://d/v2/");
}

#[tokio::test]
async fn what_is_written_deleted_or_listed_is_so_at_the_registry_itself() {
    let own = Server::start(|request: &Request| {
        let path = request.target.split('?').next().unwrap_or_default();
        match (request.line().split(' ').next(), path) {
            (Some("GET"), "/v2/app/tags/list") => Reply::json(br#"{"tags":["a"]}"#.as_slice()),
            (Some("POST"), _) => Reply::new(202).with("Location", "/v2/app/blobs/uploads/1"),
            (Some("PUT"), _) => Reply::new(201),
            (Some("DELETE"), _) => Reply::new(202),
            _ => Reply::new(404),
        }
    })
    .await;
    let mirror = Server::start(|_: &Request| Reply::ok(MANIFEST)).await;
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        &own.host(),
        &format!("[host.'{}']\n", mirror.url("")),
    );
    let (client, repository) = (client(directory.path()), own.repository("app"));
    let referrer = format!(
        r#"{{"schemaVersion":2,"subject":{{"digest":"{}"}}}}"#,
        Digest::of(MANIFEST)
    );
    let target = crate::ManifestTarget::Tag("latest".to_owned());
    client
        .upload_blob(&repository, CONTENT.into())
        .await
        .unwrap();
    assert!(!client.manifest_exists(&repository, &target).await.unwrap());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let content = bytes::Bytes::from(referrer);
    client
        .put_manifest(&repository, &target, kind, content)
        .await
        .unwrap();
    assert_eq!(client.tags(&repository).await.unwrap(), ["a"]);
    client.delete_manifest(&repository, &target).await.unwrap();
    client
        .delete_blob(&repository, blob().digest)
        .await
        .unwrap();
    let change = crate::fallback::Change::Remove(Digest::of(CONTENT));
    client
        .change_fallback_tag(&repository, Digest::of(MANIFEST), &change)
        .await
        .unwrap();
    assert!(mirror.requests().is_empty(), "{:?}", lines(&mirror));
}

#[tokio::test]
async fn names_with_the_words_of_the_api_are_no_content() {
    let (own, mirror) = (registry("own").await, registry("mirror").await);
    let directory = tempfile::tempdir().unwrap();
    let text = format!("[host.'{}']\ncapabilities = ['pull']\n", mirror.url(""));
    write(directory.path(), &own.host(), &text);
    let reference = own.reference("app/blobs/x");
    client(directory.path()).manifest(&reference).await.unwrap();
    assert!(mirror.requests().is_empty(), "{:?}", lines(&mirror));
}

#[tokio::test]
async fn the_pages_of_a_mirror_are_read_there() {
    let own = registry("own").await;
    let mirror = Server::start(|request: &Request| match request.query_value("last") {
        _ if !request.target.contains("/referrers/") => Reply::new(404),
        None => Reply::json(br#"{"manifests":[]}"#.as_slice()).with(
            "Link",
            &format!(
                "<{}?last=1>; rel=\"next\"",
                request.target.split('?').next().unwrap()
            ),
        ),
        Some(_) => Reply::json(br#"{"manifests":[]}"#.as_slice()),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let text = format!("[host.'{}']\n", mirror.url("/proxy"));
    write(directory.path(), &own.host(), &text);
    let client = client(directory.path());
    let subject = Digest::of(CONTENT);
    let found = client
        .referrers(&own.repository("app"), subject, None)
        .await;
    assert!(found.unwrap().is_empty());
    let requests = mirror.requests();
    let pages: Vec<_> = requests
        .iter()
        .filter(|r| r.target.contains("/referrers/"))
        .collect();
    assert_eq!(pages.len(), 2, "{:?}", lines(&mirror));
    assert_eq!(pages[1].query_value("last"), Some("1".to_owned()));
    for page in pages {
        assert_eq!(page.query_value("ns"), Some(own.host()));
    }
    assert!(lines(&own).iter().all(|line| !line.contains("/referrers/")));
}
