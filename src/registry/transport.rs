//! One HTTP exchange at a time, with its limits: no redirects, no authentication, no retry.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lru::LruCache;
use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::{Method, Url};

use crate::dns::SystemResolver;
use crate::error::{RegistryError, Waiting};
use crate::host::{Schemes, shown, url_is_loopback};
use crate::limits::{CONNECT_TIMEOUT, IDLE_TIMEOUT, MAX_TLS_CLIENTS};
use crate::response::Response;
use crate::retry::RetryPolicy;
use crate::tls::{self, TlsOptions};
use crate::trips::Trips;

/// Pieces in which a request body is handed to the connection; each counts as progress.
const UPLOAD_PIECE_BYTES: usize = 64 << 10;

/// HTTP/2 flow-control windows. The HTTP/2 default of 64 KiB allows 17 Mbit/s at 30 ms; 8 MiB
/// for one stream allows 2 Gbit/s there, and the connection holds a few such streams.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 8 << 20;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Limits of waiting. A whole transfer has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to be established.
    pub connect: Duration,
    /// For a response to begin, and between two bytes.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            idle: IDLE_TIMEOUT,
        }
    }
}

/// A request as the floors above put it together.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// What its server's TLS needs beyond the transport's own.
    pub(super) tls: Option<Arc<TlsOptions>>,
}

/// What a transport is made from.
#[derive(Clone, Debug)]
pub(super) struct TransportConfig {
    pub(super) schemes: Schemes,
    pub(super) ca_files: Vec<PathBuf>,
    pub(super) user_agent: String,
    pub(super) timeouts: Timeouts,
    pub(super) retry: RetryPolicy,
}

/// The connections of a client, shared by all its credentials.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) config: TransportConfig,
    pub(super) trips: Trips,
    /// Made when first needed: plain HTTP to this machine, plain HTTP, HTTPS.
    loopback: OnceLock<reqwest::Client>,
    plain: OnceLock<reqwest::Client>,
    secure: OnceLock<reqwest::Client>,
    /// For servers with certificates of their own; made anew when those have changed.
    special: Mutex<LruCache<SpecialKey, reqwest::Client>>,
}

/// The certificates of a server, and when their files were written.
type SpecialKey = (Arc<TlsOptions>, Vec<Option<SystemTime>>);

impl Transport {
    pub(super) fn new(config: TransportConfig) -> Self {
        let limit = NonZeroUsize::new(MAX_TLS_CLIENTS).expect("the limit is not zero");
        Self {
            config,
            trips: Trips::default(),
            loopback: OnceLock::new(),
            plain: OnceLock::new(),
            secure: OnceLock::new(),
            special: Mutex::new(LruCache::new(limit)),
        }
    }

    /// The connections for a request; a client is cheap to clone.
    fn client_of(&self, outgoing: &Outgoing) -> Result<reqwest::Client, RegistryError> {
        let secure = outgoing.url.scheme() == "https";
        let Some(tls) = outgoing.tls.as_ref().filter(|_| secure) else {
            return self.client_for(&outgoing.url).cloned();
        };
        let key = (Arc::clone(tls), tls.written());
        let mut special = self.special.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = special.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(true, url_is_loopback(&outgoing.url), tls)?;
        special.put(key, client.clone());
        Ok(client)
    }

    fn client_for(&self, url: &Url) -> Result<&reqwest::Client, RegistryError> {
        let loopback = url_is_loopback(url);
        let secure = url.scheme() == "https";
        let slot = match (secure, loopback) {
            (true, _) => &self.secure,
            (false, true) => &self.loopback,
            (false, false) => &self.plain,
        };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = self.build(secure, loopback, &TlsOptions::default())?;
        // Another thread may have been faster; then its client is used.
        Ok(slot.get_or_init(|| client))
    }

    fn build(
        &self,
        secure: bool,
        loopback: bool,
        options: &TlsOptions,
    ) -> Result<reqwest::Client, RegistryError> {
        let tls = match secure {
            true => tls::client_config(&self.config.ca_files, options)?,
            false => tls::unused_config()?,
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(&self.config.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .dns_resolver(SystemResolver::new())
            .connect_timeout(self.config.timeouts.connect)
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES);
        if loopback && !secure {
            // As Go's clients do: a proxy could not reach this machine's loopback.
            builder = builder.no_proxy();
        }
        builder.build().map_err(|error| RegistryError::Setup {
            reason: error.without_url().to_string(),
        })
    }

    /// Sends one request and waits for the response to begin.
    pub(super) async fn send(
        self: &Arc<Self>,
        outgoing: Outgoing,
    ) -> Result<Response, RegistryError> {
        let at = shown(&outgoing.url);
        self.trips.request();
        let sent = Arc::new(AtomicU64::new(0));
        let mut request = self
            .client_of(&outgoing)?
            .request(outgoing.method, outgoing.url)
            .headers(outgoing.headers);
        if let Some(body) = outgoing.body {
            request = request
                .header(CONTENT_LENGTH, body.len())
                .body(self.counted_body(body, Arc::clone(&sent)));
        }
        let idle = self.config.timeouts.idle;
        let mut exchange = std::pin::pin!(request.send());
        let mut progress = 0;
        let inner = loop {
            match tokio::time::timeout(idle, &mut exchange).await {
                Ok(result) => {
                    break result.map_err(|error| RegistryError::connection(&at, error))?;
                }
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    if now == progress {
                        let waiting = Waiting::Response;
                        return Err(RegistryError::Timeout {
                            at,
                            waiting,
                            after: idle,
                        });
                    }
                    progress = now;
                }
            }
        };
        Ok(Response::new(inner, at, Arc::clone(self)))
    }

    /// A body that is handed over piece by piece, so that a slow link shows as progress.
    fn counted_body(self: &Arc<Self>, body: Bytes, sent: Arc<AtomicU64>) -> reqwest::Body {
        let transport = Arc::clone(self);
        let pieces = futures_util::stream::unfold(body, move |mut rest| {
            let piece = rest.split_to(rest.len().min(UPLOAD_PIECE_BYTES));
            transport.trips.sent(piece.len());
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            let item = (!piece.is_empty()).then_some((Ok::<_, std::io::Error>(piece), rest));
            std::future::ready(item)
        });
        reqwest::Body::wrap_stream(pieces)
    }
}
