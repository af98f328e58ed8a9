//! Requests to a token service (distribution specification, "Token Authentication" and
//! "OAuth2 Token Authentication").

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::credentials::Credential;
use crate::error::RegistryError;
use crate::limits::{
    DEFAULT_TOKEN_LIFETIME, MAX_TOKEN_BYTES, MAX_TOKEN_LIFETIME, TOKEN_RENEWAL_MARGIN,
};
use crate::timestamp::rfc3339;
use crate::tls::TlsOptions;
use crate::transport::{Outgoing, Transport};

/// Name under which an OAuth2 token service knows this program.
const CLIENT_ID: &str = "brisk";

/// What a token is asked for.
#[derive(Debug)]
pub(super) struct TokenRequest<'a> {
    pub(super) realm: &'a Url,
    pub(super) service: Option<&'a str>,
    /// Scopes separated by spaces.
    pub(super) scope: &'a str,
    /// `None` asks anonymously.
    pub(super) credential: Option<&'a Credential>,
    /// The registry's own certificates, where it has any.
    pub(super) tls: Option<&'a Arc<TlsOptions>>,
}

/// An Authorization header and when to renew it.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) renew_at: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    issued_at: Option<String>,
}

/// The Authorization header for a token, kept out of logs.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

/// The Authorization header for user and password, kept out of logs.
pub(super) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    sensitive(&format!(
        "Basic {}",
        STANDARD.encode(format!("{user}:{password}"))
    ))
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Asks the token service once.
pub(super) async fn fetch(
    transport: &Arc<Transport>,
    request: &TokenRequest<'_>,
) -> Result<Token, RegistryError> {
    transport.trips.token_request();
    let asked_at = Instant::now();
    let response = transport.send(outgoing(request)).await?;
    if !response.status().is_success() {
        return Err(response.into_error().await);
    }
    let at = response.at().to_owned();
    let date = response
        .header(DATE)
        .and_then(|date| httpdate::parse_http_date(date).ok());
    let body = response.bytes(MAX_TOKEN_BYTES).await?;
    let malformed = |reason: &str| RegistryError::Malformed {
        at: at.clone(),
        reason: format!("token response: {reason}"),
    };
    // The parser's own words could quote the token.
    let parsed: TokenResponse =
        serde_json::from_slice(&body).map_err(|_| malformed("not the expected JSON"))?;
    let text = [&parsed.token, &parsed.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())
        .ok_or_else(|| malformed("neither token nor access_token in it"))?;
    let header = bearer(text).ok_or_else(|| malformed("the token has invalid characters"))?;
    let renew_at = asked_at.checked_add(renewal(&parsed, date));
    Ok(Token { header, renew_at })
}

/// How long to use a token. Its age is taken between the two times of the server, so that
/// the clock of this machine does not matter; an edge device may boot without one.
fn renewal(response: &TokenResponse, date: Option<SystemTime>) -> Duration {
    // Zero is sent by services that mean the default.
    let lifetime = match response.expires_in {
        None | Some(0) => DEFAULT_TOKEN_LIFETIME,
        Some(seconds) => Duration::from_secs(seconds).min(MAX_TOKEN_LIFETIME),
    };
    let issued_at = response.issued_at.as_deref().and_then(rfc3339);
    let age = match (date, issued_at) {
        (Some(date), Some(issued_at)) => date.duration_since(issued_at).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let margin = TOKEN_RENEWAL_MARGIN.min(lifetime / 4);
    lifetime.saturating_sub(margin).saturating_sub(age)
}

fn outgoing(request: &TokenRequest<'_>) -> Outgoing {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let mut url = request.realm.clone();
    let service = request.service.unwrap_or_default();
    if let Some(Credential::IdentityToken(token)) = request.credential {
        let form = form(&[
            ("grant_type", "refresh_token"),
            ("service", service),
            ("client_id", CLIENT_ID),
            ("scope", request.scope),
            ("refresh_token", token),
        ]);
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        return Outgoing {
            method: Method::POST,
            url,
            headers,
            body: Some(form),
            tls: request.tls.cloned(),
        };
    }
    {
        let mut query = url.query_pairs_mut();
        if !service.is_empty() {
            query.append_pair("service", service);
        }
        for scope in request.scope.split_ascii_whitespace() {
            query.append_pair("scope", scope);
        }
        if let Some(Credential::Basic { user, .. }) = request.credential {
            query.append_pair("account", user);
        }
    }
    if let Some(Credential::Basic { user, password }) = request.credential
        && let Some(value) = basic(user, password)
    {
        headers.insert(AUTHORIZATION, value);
    }
    Outgoing {
        method: Method::GET,
        url,
        headers,
        body: None,
        tls: request.tls.cloned(),
    }
}

/// Encodes a form as a URL's query is encoded, which is the same encoding.
fn form(pairs: &[(&str, &str)]) -> Bytes {
    let mut url = Url::parse("http://form.invalid/").expect("a constant URL");
    url.query_pairs_mut().extend_pairs(pairs);
    Bytes::from(url.query().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(expires_in: Option<u64>, issued_at: Option<&str>) -> TokenResponse {
        let issued_at = issued_at.map(str::to_owned);
        TokenResponse {
            token: None,
            access_token: None,
            expires_in,
            issued_at,
        }
    }

    #[test]
    fn tokens_are_renewed_before_they_expire() {
        let seconds = |expires_in| renewal(&response(expires_in, None), None).as_secs();
        assert_eq!(seconds(None), 45);
        assert_eq!(seconds(Some(0)), 45);
        assert_eq!(seconds(Some(300)), 270);
        assert_eq!(seconds(Some(4)), 3);
        assert_eq!(seconds(Some(u64::MAX)), MAX_TOKEN_LIFETIME.as_secs() - 30);
    }

    #[test]
    fn a_tokens_age_counts_by_the_servers_clock() {
        let date = rfc3339("2001-01-01T00:05:00Z");
        let old = response(Some(600), Some("2001-01-01T00:00:00Z"));
        assert_eq!(renewal(&old, date).as_secs(), 600 - 30 - 300);
        assert_eq!(renewal(&old, None).as_secs(), 570);
        let dead = response(Some(60), Some("2000-01-01T00:00:00Z"));
        assert_eq!(renewal(&dead, date), Duration::ZERO);
        let future = response(Some(600), Some("2002-01-01T00:00:00Z"));
        assert_eq!(renewal(&future, date).as_secs(), 570);
    }

    #[test]
    fn a_form_is_percent_encoded() {
        let encoded = form(&[("scope", "repository:a/b:pull push"), ("x", "1&2=3+4")]);
        assert_eq!(
            encoded,
            "scope=repository%3Aa%2Fb%3Apull+push&x=1%262%3D3%2B4"
        );
    }
}
