//! A small HTTP server before a registry: a rule decides of each request whether it is passed on,
//! answered here, or passed on with its answer spoilt. It serves as a proxy as well.
//!
//! One request a connection, so that a rule sees every request and nothing is kept open.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// No exchange of a test is silent for so long.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Path with query; of a proxy the whole URL, or `host:port` of CONNECT.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether it asks for a part of a blob or for a whole one.
    pub fn is_blob(&self) -> bool {
        self.method == "GET" && self.target.contains("/blobs/sha256:")
    }

    /// The digest at the end of its path.
    pub fn digest(&self) -> Option<&str> {
        let path = self.target.split('?').next()?;
        path.rsplit('/').next().filter(|d| d.contains(':'))
    }
}

/// What becomes of a request.
pub enum Answer {
    /// It is passed on, and so is its answer.
    Pass,
    /// This status, these headers, this body.
    Reply(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Of the real answer's body so many bytes, then the end of the connection.
    Cut(usize),
    /// The real answer with every 1000th byte of its body changed.
    Garble,
}

impl Answer {
    /// A redirect.
    pub fn redirect(to: String) -> Self {
        Answer::Reply(307, vec![("Location", to)], Vec::new())
    }

    /// A status without more.
    pub fn status(status: u16) -> Self {
        Answer::Reply(status, Vec::new(), Vec::new())
    }
}

type Rule = dyn Fn(&Request) -> Answer + Send + Sync;

/// A running gateway; dropping it ends it.
pub struct Gateway {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    ending: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Gateway {
    /// A gateway before the server at that address.
    pub fn start(
        server: SocketAddr,
        rule: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, ending) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::default());
        let (log, end) = (Arc::clone(&seen), Arc::<AtomicBool>::clone(&ending));
        let rule: Arc<Rule> = Arc::new(rule);
        let accepting = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (rule, log) = (Arc::clone(&rule), Arc::clone(&log));
                std::thread::spawn(move || {
                    // A client may go away whenever it wants.
                    let _ = exchange(stream, server, &*rule, &log);
                });
            }
        });
        Gateway {
            address,
            seen,
            ending,
            accepting: Some(accepting),
        }
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Its port, by which another name of this machine reaches it.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests so far are of a kind.
    pub fn count(&self, kind: impl Fn(&Request) -> bool) -> usize {
        self.seen().iter().filter(|request| kind(request)).count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn exchange(
    mut client: TcpStream,
    server: SocketAddr,
    rule: &Rule,
    log: &Mutex<Vec<Request>>,
) -> io::Result<()> {
    client.set_read_timeout(Some(SILENCE_LIMIT))?;
    let Some(request) = read_request(&mut client)? else {
        return Ok(());
    };
    log.lock().unwrap().push(request.clone());
    match rule(&request) {
        Answer::Reply(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            let length = body.len();
            head.push_str(&format!(
                "Content-Length: {length}\r\nConnection: close\r\n\r\n"
            ));
            client.write_all(head.as_bytes())?;
            match request.method.as_str() {
                "HEAD" => Ok(()),
                _ => client.write_all(&body),
            }
        }
        Answer::Pass if request.method == "CONNECT" => tunnel(client, server),
        Answer::Pass => io::copy(&mut pass_on(&request, server)?, &mut client).map(drop),
        Answer::Cut(length) => {
            let (head, body) = whole_answer(&request, server)?;
            client.write_all(&head)?;
            client.write_all(&body[..length.min(body.len())])
        }
        Answer::Garble => {
            let (head, mut body) = whole_answer(&request, server)?;
            body.iter_mut().step_by(1000).for_each(|byte| *byte ^= 0x55);
            client.write_all(&head)?;
            client.write_all(&body)
        }
    }
}

/// Sends the request to the server; gives the connection, which ends with the answer.
fn pass_on(request: &Request, server: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    // A proxy is asked by the whole URL, a server by its path.
    let path = match request.target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => request.target.as_str(),
    };
    let mut head = format!("{} {path} HTTP/1.1\r\n", request.method);
    for (name, value) in &request.headers {
        if !["connection", "proxy-authorization"].contains(&name.as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(&request.body)?;
    Ok(stream)
}

/// Head and body of the server's answer.
fn whole_answer(request: &Request, server: SocketAddr) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut answer = Vec::new();
    pass_on(request, server)?.read_to_end(&mut answer)?;
    let end = end_of_head(&answer).ok_or(io::ErrorKind::UnexpectedEof)?;
    let body = answer.split_off(end);
    Ok((answer, body))
}

fn tunnel(mut client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let mut upstream = TcpStream::connect(server)?;
    upstream.set_read_timeout(Some(SILENCE_LIMIT))?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let copied = io::copy(&mut upstream, &mut client).map(drop);
    let _ = client.shutdown(Shutdown::Both);
    copied
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}

fn read_request(client: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut read_more = |bytes: &mut Vec<u8>| -> io::Result<bool> {
        let mut piece = [0; 16 << 10];
        let length = client.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..length]);
        Ok(length > 0)
    };
    let end = loop {
        if let Some(end) = end_of_head(&bytes) {
            break end;
        }
        if !read_more(&mut bytes)? {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next(), words.next());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + length {
        if !read_more(&mut bytes)? {
            return Ok(None);
        }
    }
    Ok(Some(Request {
        method: method.unwrap_or_default().to_owned(),
        target: target.unwrap_or_default().to_owned(),
        headers,
        body: bytes.split_off(end),
    }))
}
