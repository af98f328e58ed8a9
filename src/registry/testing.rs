//! A scripted HTTP server on loopback for this floor's tests: a function answers each
//! request, byte for byte as the test wants it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::ClientConfig;
use crate::reference::{Reference, Repository};
use crate::retry::RetryPolicy;
use crate::transport::Timeouts;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path with query.
    pub(super) target: String,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// `METHOD /path`, without the query.
    pub(super) fn line(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }

    pub(super) fn query(&self) -> Vec<(String, String)> {
        let url = reqwest::Url::parse(&format!("http://x{}", self.target)).unwrap();
        url.query_pairs()
            .map(|(k, v)| (k.into_owned(), v.into_owned()))
            .collect()
    }

    pub(super) fn query_value(&self, name: &str) -> Option<String> {
        self.query()
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// The range asked for, as `start..end`.
    pub(super) fn range(&self) -> Option<std::ops::Range<usize>> {
        let (start, last) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        Some(start.parse().ok()?..last.parse::<usize>().ok()? + 1)
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Send only so many bytes of the body, then close or stall.
    cut: Option<(usize, Duration)>,
    /// Close the connection without an answer.
    hang_up: bool,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(super) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::ok(body).with("Content-Type", "application/json")
    }

    /// The same answer with another status.
    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// No answer: the connection breaks.
    pub(super) fn hang_up() -> Self {
        Self {
            hang_up: true,
            ..Self::default()
        }
    }

    pub(super) fn redirect(location: &str) -> Self {
        Self::new(307).with("Location", location)
    }

    pub(super) fn challenge(value: &str) -> Self {
        Self::new(401).with("WWW-Authenticate", value)
    }

    /// What a store answers to a request for a blob, ranges included.
    pub(super) fn blob(content: &[u8], request: &Request) -> Self {
        match request.range() {
            Some(range) => {
                let of = format!("bytes {}-{}/{}", range.start, range.end - 1, content.len());
                let body = content[range].to_vec();
                Self {
                    status: 206,
                    body,
                    ..Self::default()
                }
                .with("Content-Range", &of)
            }
            None => Self::ok(content),
        }
    }

    /// Announces the whole body, sends part of it, waits, and closes.
    pub(super) fn cut_after(mut self, bytes: usize, wait: Duration) -> Self {
        self.cut = Some((bytes, wait));
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server. It ends with the test's runtime.
pub(super) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(super) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let shared = Arc::clone(&log);
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&shared));
                tokio::spawn(serve(stream, handler, log));
            }
        });
        Self {
            address,
            log,
            connections,
        }
    }

    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The same server by another name, which counts as another host.
    pub(super) fn other_host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn repository(&self, name: &str) -> Repository {
        self.reference(name).repository().clone()
    }

    pub(super) fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host()).parse().unwrap()
    }

    /// Connections accepted so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The requests so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Their first lines.
    pub(super) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }
}

/// A client configuration with short waits.
pub(super) fn quick() -> ClientConfig {
    ClientConfig {
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            idle: Duration::from_millis(300),
        },
        retry: RetryPolicy {
            retries: 3,
            first_delay: Duration::from_millis(2),
            max_delay: Duration::from_millis(10),
        },
        ..ClientConfig::default()
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Request>>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        log.lock().unwrap().push(request.clone());
        let reply = handler(&request);
        let head = request.method == "HEAD";
        if !write_reply(&mut stream, &reply, head).await {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .map_or(0, |v| v.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.drain(..length).collect();
    Some(Request {
        method,
        target,
        headers,
        body,
    })
}

/// False when the connection is to be closed.
async fn write_reply(stream: &mut TcpStream, reply: &Reply, head: bool) -> bool {
    if reply.hang_up {
        return false;
    }
    let mut text = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let named = |wanted: &str| {
        reply
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    if !named("content-length") && !named("transfer-encoding") {
        text.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    let cut = reply.cut.map_or(reply.body.len(), |(bytes, _)| bytes);
    if !head {
        bytes.extend_from_slice(&reply.body[..cut]);
    }
    let written = stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok();
    if let Some((_, wait)) = reply.cut {
        tokio::time::sleep(wait).await;
        return false;
    }
    written
}
