//! Serves `/metrics` and `/healthz` by HTTP.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use tokio::net::TcpListener;

use crate::daemon::metrics::exposition::{MEDIA_TYPE, text};
use crate::daemon::service::Service;

/// Where the metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A port of this machine's loopback.
    Loopback(SocketAddr),
    /// A unix socket, for root alone.
    Unix(PathBuf),
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match PathBuf::from(path) {
                path if path.is_absolute() => Ok(Address::Unix(path)),
                _ => Err(format!("{text:?} is not unix: and an absolute path")),
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Address::Loopback(address)),
            Ok(_) => Err(format!(
                "{text:?} can be reached from outside, and nobody is asked for a password: use a \
                 loopback address such as \"127.0.0.1:9469\", or \"unix:/run/brisk/metrics.sock\", \
                 and a proxy in front of it"
            )),
            Err(_) => Err(format!(
                "{text:?} is neither an address such as \"127.0.0.1:9469\" nor \
                 \"unix:/run/brisk/metrics.sock\""
            )),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Loopback(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(|reason| de::Error::custom(format!("metrics address {reason}")))
    }
}

/// The metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("metrics at {address}: {source} (hint: [metrics] address names another place)")]
pub struct MetricsError {
    address: Address,
    source: io::Error,
}

/// Serves the metrics of a service until it stops. When this returns, clients can connect.
///
/// # Errors
/// Where the address is taken, or nobody may listen there.
pub async fn serve(address: &Address, service: &Arc<Service>) -> Result<(), MetricsError> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(service.clone());
    let on_listen = |source| MetricsError {
        address: address.clone(),
        source,
    };
    let stopped = service.clone();
    let stopped = async move { stopped.stopped().await };
    match address {
        Address::Loopback(socket) => {
            let listener = TcpListener::bind(socket).await.map_err(on_listen)?;
            let serving = axum::serve(listener, router).with_graceful_shutdown(stopped);
            tokio::spawn(async move { serving.await });
        }
        Address::Unix(path) => {
            let listener = brisk_snapshotter::socket::bind(path).map_err(on_listen)?;
            let serving = axum::serve(listener, router).with_graceful_shutdown(stopped);
            tokio::spawn(async move { serving.await });
        }
    }
    Ok(())
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    // Walking the mounts takes locks that are held while something is mounted.
    let gathered = tokio::task::spawn_blocking(move || service.gather()).await;
    match gathered.map(text) {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    match tokio::task::spawn_blocking(move || service.ailment()).await {
        Ok(None) => "ok\n".into_response(),
        Ok(Some(ailment)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{ailment}\n")).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_on_this_machine() {
        let parse = |text: &str| text.parse::<Address>();
        assert_eq!(parse("[::1]:9").unwrap().to_string(), "[::1]:9");
        assert_eq!(
            parse("unix:/run/m").unwrap(),
            Address::Unix("/run/m".into())
        );
        assert!(parse("0.0.0.0:9469").unwrap_err().contains("127.0.0.1"));
        for text in ["unix:run/m", "9469", "localhost:9469", ""] {
            assert!(parse(text).unwrap_err().contains(&format!("{text:?}")));
        }
    }
}
