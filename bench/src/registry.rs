//! A small OCI registry on loopback: pull by range, push, referrers.
//!
//! It implements what the demo, the tests and the benches need of the OCI distribution
//! specification 1.1, for clients that are on this machine and mean well: no authentication,
//! no deletion, everything kept below one directory.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Piece in which a blob is read from disk and sent.
const PIECE: usize = 256 * 1024;
/// Largest body of one upload.
const UPLOAD_LIMIT: usize = 4 << 30;

/// A manifest as it was pushed.
#[derive(Clone)]
struct Manifest {
    media_type: String,
    bytes: Bytes,
}

struct Shared {
    blobs: PathBuf,
    native_referrers: bool,
    manifests: Mutex<BTreeMap<(String, String), Manifest>>,
    requests: AtomicU64,
    uploads: AtomicU64,
}

/// A running registry; dropping it stops it.
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Registry {
    /// Starts a registry on a free loopback port that keeps its blobs below `directory`.
    ///
    /// # Errors
    /// Where the directory or the port cannot be had.
    pub async fn start(directory: &Path, native_referrers: bool) -> Result<Self> {
        let blobs = directory.join("blobs");
        std::fs::create_dir_all(&blobs).with_context(|| format!("creating {}", blobs.display()))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            blobs,
            native_referrers,
            manifests: Mutex::default(),
            requests: AtomicU64::new(0),
            uploads: AtomicU64::new(0),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Registry {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_end_matches('/').to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    if path == "/v2" {
        return (StatusCode::OK, "{}").into_response();
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let upload = rest.find("/blobs/uploads");
    if let Some(at) = upload {
        return uploads(&shared, &rest[..at], &parts.method, &query, body).await;
    }
    let Some((name, kind, what)) = split(rest) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match (kind, parts.method.clone()) {
        ("blobs", Method::GET | Method::HEAD) => {
            blob(&shared, what, &parts.headers, parts.method == Method::HEAD).await
        }
        ("manifests", Method::GET | Method::HEAD) => get_manifest(&shared, name, what),
        ("manifests", Method::PUT) => put_manifest(&shared, name, what, &parts.headers, body).await,
        ("referrers", Method::GET) if shared.native_referrers => referrers(&shared, name, what),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Splits `NAME/KIND/REFERENCE`.
fn split(rest: &str) -> Option<(&str, &str, &str)> {
    let (before, what) = rest.rsplit_once('/')?;
    let (name, kind) = before.rsplit_once('/')?;
    Some((name, kind, what))
}

fn blob_path(shared: &Shared, digest: &str) -> Option<PathBuf> {
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| shared.blobs.join(hex))
}

async fn blob(shared: &Shared, digest: &str, headers: &HeaderMap, head: bool) -> Response {
    let Some(path) = blob_path(shared, digest) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Ok(mut file) = tokio::fs::File::open(path).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let size = match file.metadata().await {
        Ok(metadata) => metadata.len(),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let wanted = headers
        .get(header::RANGE)
        .and_then(|r| r.to_str().ok())
        .map(|r| range(r, size));
    let (status, start, end) = match wanted {
        None => (StatusCode::OK, 0, size),
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => return StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_LENGTH, end - start)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header("docker-content-digest", digest);
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {start}-{}/{size}", end - 1);
        response = response.header(header::CONTENT_RANGE, range);
    }
    if head {
        return response.body(Body::empty()).unwrap_or_default();
    }
    if file.seek(std::io::SeekFrom::Start(start)).await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let pieces = futures_util::stream::unfold((file, end - start), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        let result = file
            .read_exact(&mut piece)
            .await
            .map(|_| Bytes::from(piece));
        let left = left - result.as_ref().map_or(left, |p| p.len() as u64);
        Some((result, (file, left)))
    });
    response.body(Body::from_stream(pieces)).unwrap_or_default()
}

/// First byte and end of a `bytes=A-[B]` range within `size`; none where it cannot be satisfied.
fn range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = first.parse().ok()?;
    let end = match last {
        "" => size,
        last => last.parse::<u64>().ok()?.checked_add(1)?.min(size),
    };
    (start < end).then_some((start, end))
}

async fn uploads(
    shared: &Shared,
    name: &str,
    method: &Method,
    query: &str,
    body: Body,
) -> Response {
    if *method == Method::POST {
        let number = shared.uploads.fetch_add(1, Ordering::Relaxed);
        let location = format!("/v2/{name}/blobs/uploads/{number}");
        return (StatusCode::ACCEPTED, [(header::LOCATION, location)]).into_response();
    }
    let digest = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("digest="))
        .map(|digest| digest.replace("%3A", ":").replace("%3a", ":"));
    let Some((digest, path)) = digest.and_then(|d| blob_path(shared, &d).map(|p| (d, p))) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Ok(bytes) = axum::body::to_bytes(body, UPLOAD_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    if sha256(&bytes) != digest {
        return (StatusCode::BAD_REQUEST, "digest does not match").into_response();
    }
    match tokio::fs::write(path, &bytes).await {
        Ok(()) => {
            let location = format!("/v2/{name}/blobs/{digest}");
            (StatusCode::CREATED, [(header::LOCATION, location)]).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn get_manifest(shared: &Shared, name: &str, what: &str) -> Response {
    let manifests = shared
        .manifests
        .lock()
        .expect("no holder of this lock panics");
    match manifests.get(&(name.to_owned(), what.to_owned())) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(manifest) => (
            [
                ("content-type", manifest.media_type.clone()),
                ("docker-content-digest", sha256(&manifest.bytes)),
            ],
            manifest.bytes.clone(),
        )
            .into_response(),
    }
}

async fn put_manifest(
    shared: &Shared,
    name: &str,
    what: &str,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let Ok(bytes) = axum::body::to_bytes(body, UPLOAD_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let Ok(document) = serde_json::from_slice::<Value>(&bytes) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|t| t.to_str().ok())
        .unwrap_or("application/vnd.oci.image.manifest.v1+json")
        .to_owned();
    let digest = sha256(&bytes);
    let manifest = Manifest { media_type, bytes };
    let mut manifests = shared
        .manifests
        .lock()
        .expect("no holder of this lock panics");
    manifests.insert((name.to_owned(), digest.clone()), manifest.clone());
    manifests.insert((name.to_owned(), what.to_owned()), manifest);
    let mut response = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::LOCATION, format!("/v2/{name}/manifests/{digest}"))
        .header("docker-content-digest", &digest);
    if let Some(subject) = document["subject"]["digest"].as_str()
        && shared.native_referrers
    {
        response = response.header("oci-subject", subject);
    }
    response.body(Body::empty()).unwrap_or_default()
}

fn referrers(shared: &Shared, name: &str, subject: &str) -> Response {
    let manifests = shared
        .manifests
        .lock()
        .expect("no holder of this lock panics");
    let mut found = BTreeMap::new();
    for ((repository, _), manifest) in manifests.iter() {
        let document: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
        if repository != name || document["subject"]["digest"].as_str() != Some(subject) {
            continue;
        }
        let digest = sha256(&manifest.bytes);
        let descriptor = json!({
            "mediaType": manifest.media_type,
            "digest": digest,
            "size": manifest.bytes.len(),
            "artifactType": document["artifactType"],
            "annotations": document["annotations"],
        });
        found.insert(digest, descriptor);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": found.into_values().collect::<Vec<_>>(),
    });
    (
        [("content-type", "application/vnd.oci.image.index.v1+json")],
        index.to_string(),
    )
        .into_response()
}

/// `sha256:` and the digest in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end_and_never_empty() {
        assert_eq!(range("bytes=0-9", 100), Some((0, 10)));
        assert_eq!(range("bytes=90-200", 100), Some((90, 100)));
        assert_eq!(range("bytes=5-", 100), Some((5, 100)));
        assert_eq!(range("bytes=100-", 100), None);
        assert_eq!(range("bytes=-5", 100), None);
        assert_eq!(range("lines=1-2", 100), None);
    }

    #[test]
    fn a_digest_that_is_no_digest_names_no_file() {
        let shared = Shared {
            blobs: PathBuf::from("/b"),
            native_referrers: true,
            manifests: Mutex::default(),
            requests: AtomicU64::new(0),
            uploads: AtomicU64::new(0),
        };
        assert!(blob_path(&shared, "sha256:../../etc/passwd").is_none());
        assert!(blob_path(&shared, &format!("sha256:{}", "a".repeat(64))).is_some());
    }
}
