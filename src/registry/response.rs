//! A response: its headers, and its body with the limits of waiting and size.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::error::{RegistryError, Waiting};
use crate::limits::MAX_ERROR_BYTES;
use crate::timestamp::retry_after;
use crate::transport::Transport;

/// A response whose body has not been read yet.
#[derive(Debug)]
pub(super) struct Response {
    inner: reqwest::Response,
    at: String,
    transport: Arc<Transport>,
}

impl Response {
    pub(super) fn new(inner: reqwest::Response, at: String, transport: Arc<Transport>) -> Self {
        Self {
            inner,
            at,
            transport,
        }
    }

    /// The URL without its query.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    pub(super) fn url(&self) -> &Url {
        self.inner.url()
    }

    pub(super) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// A header's value, if it is there and readable text.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The announced length of the body.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// The next bytes of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let idle = self.transport.config.timeouts.idle;
        let chunk = match tokio::time::timeout(idle, self.inner.chunk()).await {
            Ok(result) => result.map_err(|error| RegistryError::connection(&self.at, error))?,
            Err(_) => {
                let at = self.at.clone();
                return Err(RegistryError::Timeout {
                    at,
                    waiting: Waiting::Body,
                    after: idle,
                });
            }
        };
        if let Some(chunk) = &chunk {
            self.transport.trips.received(chunk.len());
        }
        Ok(chunk)
    }

    /// The whole body, refused above `limit` bytes.
    pub(super) async fn bytes(mut self, limit: u64) -> Result<Bytes, RegistryError> {
        let too_large = |at: &str| RegistryError::TooLarge {
            at: at.to_owned(),
            limit,
        };
        let announced = self.content_length();
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(&self.at));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large(&self.at));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The error that this response is.
    pub(super) async fn into_error(self) -> RegistryError {
        let status = self.status().as_u16();
        let retry_after = self
            .header(RETRY_AFTER)
            .and_then(|value| retry_after(value, SystemTime::now()));
        let at = self.at.clone();
        // The words are a courtesy: failing to read them must not hide the status, nor may a
        // server that sends them byte by byte hold it up.
        let limit = self.transport.config.timeouts.idle;
        let body = tokio::time::timeout(limit, self.bytes(MAX_ERROR_BYTES)).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        RegistryError::Status {
            at,
            status,
            detail: error_detail(&body),
            retry_after,
        }
    }
}

#[derive(Deserialize)]
struct ErrorDocument {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The codes and messages of an error document (distribution specification, "Error Codes"),
/// made safe for a terminal.
fn error_detail(body: &[u8]) -> String {
    /// Long enough for several errors, short enough for one line of a log.
    const MAX_DETAIL_CHARS: usize = 300;
    let Ok(document) = serde_json::from_slice::<ErrorDocument>(body) else {
        return String::new();
    };
    let errors: Vec<String> = document
        .errors
        .iter()
        .map(|entry| {
            format!("{} {}", entry.code, entry.message)
                .trim()
                .to_owned()
        })
        .collect();
    errors
        .join("; ")
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_DETAIL_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_documents_become_one_safe_line() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown\u001b[31m","detail":{}},{"code":"DENIED"}]}"#;
        assert_eq!(
            error_detail(body),
            "MANIFEST_UNKNOWN manifest unknown[31m; DENIED"
        );
        assert_eq!(error_detail(b"<html>"), "");
        assert_eq!(error_detail(b"{}"), "");
        let long = format!(
            r#"{{"errors":[{{"code":"X","message":"{}"}}]}}"#,
            "y".repeat(1000)
        );
        assert_eq!(error_detail(long.as_bytes()).len(), 300);
    }
}
