//! Registry hosts: which name stands for which API, and how it is reached.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::error::RegistryError;

/// The name users see for Docker Hub.
pub(super) const HUB: &str = "docker.io";
/// The other name of Docker Hub that references use.
pub(super) const HUB_ALIAS: &str = "index.docker.io";
/// Where Docker Hub's registry API is.
const HUB_API: &str = "registry-1.docker.io";

/// The host whose API serves the registry named `host`.
pub(super) fn api_host(host: &str) -> &str {
    if host == HUB { HUB_API } else { host }
}

/// True for `localhost`, 127.0.0.0/8 and ::1, with or without a port.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let name = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || name.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// True when a URL's host is this machine.
pub(super) fn url_is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

/// Which hosts are reached by plain HTTP. Loopback hosts are, others are not, unless listed.
#[derive(Clone, Debug, Default)]
pub(super) struct Schemes {
    pub(super) plain_http: BTreeSet<String>,
    pub(super) https: BTreeSet<String>,
}

impl Schemes {
    /// True when `host` (with its port, if the reference has one) is reached by plain HTTP.
    pub(super) fn is_plain(&self, host: &str) -> bool {
        self.plain_http.contains(host) || (is_loopback(host) && !self.https.contains(host))
    }

    /// The root URL of the registry named `host`.
    ///
    /// # Errors
    /// `Setup` when the host does not make a URL, which a parsed reference excludes.
    pub(super) fn root(&self, host: &str) -> Result<Url, RegistryError> {
        let scheme = if self.is_plain(host) { "http" } else { "https" };
        let text = format!("{scheme}://{}/", api_host(host));
        Url::parse(&text).map_err(|error| RegistryError::Setup {
            reason: format!("{text}: {error}"),
        })
    }
}

/// A URL as it may be shown and logged: no query, which may hold a signature, no user, no
/// fragment.
pub(super) fn shown(url: &Url) -> String {
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    format!(
        "{}://{}{port}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        url.path()
    )
}

/// True when both URLs have the same scheme, host and port, so that a credential for one may
/// be sent to the other.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts_are_plain_and_others_are_not() {
        let schemes = Schemes::default();
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
        ] {
            assert!(schemes.is_plain(host), "{host}");
        }
        for host in [
            "docker.io",
            "example.com:5000",
            "10.0.0.1",
            "127.0.0.1.example",
            "[::2]:1",
        ] {
            assert!(!schemes.is_plain(host), "{host}");
        }
    }

    #[test]
    fn listed_hosts_override_the_rule() {
        let schemes = Schemes {
            plain_http: BTreeSet::from(["10.0.0.1:5000".to_owned()]),
            https: BTreeSet::from(["localhost:5443".to_owned()]),
        };
        assert!(schemes.is_plain("10.0.0.1:5000"));
        assert!(!schemes.is_plain("10.0.0.1"));
        assert!(!schemes.is_plain("localhost:5443"));
    }

    #[test]
    fn the_hub_has_its_own_api_host() {
        let root = Schemes::default().root("docker.io").unwrap();
        assert_eq!(root.as_str(), "https://registry-1.docker.io/");
        let root = Schemes::default().root("[::1]:5000").unwrap();
        assert_eq!(root.as_str(), "http://[::1]:5000/");
    }

    #[test]
    fn a_shown_url_has_no_secrets() {
        let url = Url::parse("https://user:pw@cdn.example:8443/a/b?X-Signature=secret#f").unwrap();
        assert_eq!(shown(&url), "https://cdn.example:8443/a/b");
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(same_origin(&url("https://a/x"), &url("https://a:443/y")));
        for other in ["http://a/", "https://a:444/", "https://b/", "https://a.b/"] {
            assert!(!same_origin(&url("https://a/"), &url(other)), "{other}");
        }
    }
}
