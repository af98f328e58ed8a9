//! Reads one registry's `hosts.toml`, or the certificates of a directory without one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::{Capabilities, Endpoint, is_own};
use crate::host::{Schemes, is_loopback};
use crate::limits::MAX_HOSTS_FILE_BYTES;
use crate::tls::{ClientPair, TlsOptions};

/// The file: the settings of the registry's own server, and its mirrors in their order.
#[derive(Debug, Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(flatten)]
    own: Settings,
    #[serde(default)]
    host: toml::Table,
}

/// What is said of one server. Keys that containerd may learn later are no mistake here.
#[derive(Debug, Default, Deserialize)]
struct Settings {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<ClientFiles>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    header: toml::Table,
    #[serde(default)]
    override_path: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// `client`: a file with both, several of them, or `[certificate, key]` pairs.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ClientFiles {
    One(String),
    Many(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

/// The servers that the file or directory at `path` names for a registry.
///
/// # Errors
/// In words that name the line or key.
pub(super) fn read(path: &Path, host: &str, schemes: &Schemes) -> Result<Vec<Endpoint>, String> {
    if path.is_dir() {
        let tls = certificates_of(path).map_err(|error| error.to_string())?;
        let mut own = Endpoint::plain(host, schemes).map_err(|error| error.to_string())?;
        own.tls = tls.map(Arc::new);
        return Ok(vec![own]);
    }
    let metadata = path.metadata().map_err(|error| error.to_string())?;
    if metadata.len() > MAX_HOSTS_FILE_BYTES {
        return Err(format!("it has more than {MAX_HOSTS_FILE_BYTES} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    parse(&text, path.parent().unwrap_or(path), host, schemes)
}

fn parse(
    text: &str,
    directory: &Path,
    host: &str,
    schemes: &Schemes,
) -> Result<Vec<Endpoint>, String> {
    let file: HostsFile = toml::from_str(text).map_err(|error| in_line(text, &error))?;
    let mut endpoints = Vec::new();
    for (name, settings) in file.host {
        let settings = Settings::deserialize(settings)
            .map_err(|error| format!("host {name:?}: {}", error.message()))?;
        let endpoint = endpoint(&name, settings, directory, host);
        endpoints.push(endpoint.map_err(|reason| format!("host {name:?}: {reason}"))?);
    }
    let own = match file.server {
        Some(server) => endpoint(&server, file.own, directory, host)
            .map_err(|reason| format!("server {server:?}: {reason}"))?,
        None => {
            let own = Endpoint::plain(host, schemes).map_err(|error| error.to_string())?;
            configured(own, file.own, directory)?
        }
    };
    endpoints.push(own);
    Ok(endpoints)
}

fn in_line(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    format!("line {line}: {}", error.message())
}

fn endpoint(
    server: &str,
    settings: Settings,
    directory: &Path,
    registry: &str,
) -> Result<Endpoint, String> {
    let text = match server.contains("://") {
        true => server.to_owned(),
        false if is_loopback(server.split('/').next().unwrap_or_default()) => {
            format!("http://{server}")
        }
        false => format!("https://{server}"),
    };
    let mut base = Url::parse(&text).map_err(|error| error.to_string())?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err("it is no http or https URL".to_owned());
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err("credentials do not belong in its URL".to_owned());
    }
    let own_path = base.path().trim_end_matches('/').to_owned();
    base.set_path(&match own_path.as_str() {
        path if settings.override_path => format!("{path}/"),
        path if path.ends_with("/v2") => format!("{path}/"),
        path => format!("{path}/v2/"),
    });
    base.set_query(None);
    base.set_fragment(None);
    let mut host = base.host_str().unwrap_or_default().to_owned();
    if let Some(port) = base.port() {
        host = format!("{host}:{port}");
    }
    let is_own = is_own(registry, &host);
    let endpoint = Endpoint {
        host: match is_own {
            true => registry.to_owned(),
            false => host,
        },
        base,
        namespace: (!is_own).then(|| registry.to_owned()),
        capabilities: Capabilities::ALL,
        headers: HeaderMap::new(),
        tls: None,
        failed: Mutex::default(),
    };
    configured(endpoint, settings, directory)
}

/// Puts settings into an endpoint.
fn configured(
    mut endpoint: Endpoint,
    settings: Settings,
    directory: &Path,
) -> Result<Endpoint, String> {
    if let Some(named) = &settings.capabilities {
        let mut has = Capabilities {
            pull: false,
            resolve: false,
            push: false,
        };
        for name in named {
            match name.as_str() {
                "pull" => has.pull = true,
                "resolve" => has.resolve = true,
                "push" => has.push = true,
                other => {
                    return Err(format!(
                        "capability {other:?} is neither \"pull\" nor \"resolve\" nor \"push\""
                    ));
                }
            }
        }
        endpoint.capabilities = has;
    }
    for (name, value) in &settings.header {
        let values = match value {
            toml::Value::String(one) => vec![one.as_str()],
            toml::Value::Array(many) => many
                .iter()
                .map(|value| value.as_str().ok_or(()))
                .collect::<Result<_, _>>()
                .map_err(|()| format!("header {name:?} is not of strings"))?,
            _ => return Err(format!("header {name:?} is not a string or a list of them")),
        };
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is no name of a header"))?;
        for value in values {
            // It may be a password: not shown.
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| format!("header {name:?} has a value with invalid characters"))?;
            value.set_sensitive(true);
            endpoint.headers.append(header.clone(), value);
        }
    }
    let absolute = |path: &String| directory.join(path);
    let ca_files: Vec<PathBuf> = match &settings.ca {
        None => Vec::new(),
        Some(OneOrMany::One(path)) => vec![absolute(path)],
        Some(OneOrMany::Many(paths)) => paths.iter().map(absolute).collect(),
    };
    let both = |path: &String| ClientPair {
        certificate: absolute(path),
        key: absolute(path),
    };
    let pairs = match &settings.client {
        None => Vec::new(),
        Some(ClientFiles::One(path)) => vec![both(path)],
        Some(ClientFiles::Many(paths)) => paths.iter().map(both).collect(),
        Some(ClientFiles::Pairs(pairs)) => pairs
            .iter()
            .map(|pair| match pair.as_slice() {
                [path] => Ok(both(path)),
                [certificate, key] => Ok(ClientPair {
                    certificate: absolute(certificate),
                    key: absolute(key),
                }),
                _ => Err("client is not of [certificate, key] pairs".to_owned()),
            })
            .collect::<Result<_, _>>()?,
    };
    let tls = TlsOptions {
        ca_files,
        client: pairs.into_iter().next(),
        skip_verify: settings.skip_verify,
    };
    endpoint.tls = (tls != TlsOptions::default()).then(|| Arc::new(tls));
    Ok(endpoint)
}

/// The certificates of a directory in Docker's layout: `*.crt` are authorities, `NAME.cert` with
/// `NAME.key` is the client's own.
fn certificates_of(directory: &Path) -> std::io::Result<Option<TlsOptions>> {
    let mut options = TlsOptions::default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    for file in &files {
        match file.extension().and_then(|e| e.to_str()) {
            Some("crt") => options.ca_files.push(file.clone()),
            Some("cert") if options.client.is_none() => {
                let key = file.with_extension("key");
                options.client = files.contains(&key).then(|| ClientPair {
                    certificate: file.clone(),
                    key,
                });
            }
            _ => {}
        }
    }
    Ok((options != TlsOptions::default()).then_some(options))
}
