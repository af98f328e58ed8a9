//! Which servers serve a registry: mirrors and settings from containerd's `hosts.toml` files.
//!
//! Layout and meaning: containerd's `docs/hosts.md`. Below a configured directory, a registry's
//! directory is named by its host (`registry.test`, `registry.test:5000` or
//! `registry.test_5000_`), or `_default` where it has none of its own. Servers are tried in the
//! order of the file, the registry itself last.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::Url;
use reqwest::header::HeaderMap;

use crate::error::RegistryError;
use crate::host::{HUB, Schemes, api_host, same_origin};
use crate::reference::Repository;
use crate::tls::TlsOptions;

mod file;

/// A server that could not be reached is tried after the others for so long.
const FAILED_PAUSE: Duration = Duration::from_secs(30);

/// What a request needs its server to be trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capability {
    /// Content whose digest is known.
    Pull,
    /// What a tag means, and what refers to an image.
    Resolve,
    /// Which tags there are: a mirror may have some of them only.
    List,
    /// Writing and deleting.
    Push,
}

/// The capabilities of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) pull: bool,
    pub(super) resolve: bool,
    pub(super) push: bool,
}

impl Capabilities {
    pub(super) const ALL: Capabilities = Capabilities {
        pull: true,
        resolve: true,
        push: true,
    };

    pub(super) fn has(self, capability: Capability) -> bool {
        match capability {
            Capability::Pull => self.pull,
            Capability::Resolve | Capability::List => self.resolve,
            Capability::Push => self.push,
        }
    }
}

/// One server that serves a registry.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// What repository paths are appended to: `https://mirror.test/v2/`.
    pub(super) base: Url,
    /// Its host as references would name it: what its credentials are looked up by.
    pub(super) host: String,
    /// The registry that a mirror is to know that it stands for: the `ns` of its requests.
    pub(super) namespace: Option<String>,
    pub(super) capabilities: Capabilities,
    /// Sent with every request to it.
    pub(super) headers: HeaderMap,
    /// Where it differs from the client's own.
    pub(super) tls: Option<Arc<TlsOptions>>,
    failed: Mutex<Option<Instant>>,
}

impl Endpoint {
    /// The registry itself, by the client's own settings.
    pub(super) fn plain(host: &str, schemes: &Schemes) -> Result<Self, RegistryError> {
        let mut base = schemes.root(host)?;
        base.set_path("/v2/");
        Ok(Endpoint {
            base,
            host: host.to_owned(),
            namespace: None,
            capabilities: Capabilities::ALL,
            headers: HeaderMap::new(),
            tls: None,
            failed: Mutex::default(),
        })
    }

    /// The repository as this server's credentials and tokens know it.
    pub(super) fn repository(&self, repository: &Repository) -> Repository {
        repository.at_host(&self.host)
    }

    /// A URL of the registry's own API (`/v2/...`) at this server; one that lies at this server
    /// already is left as it is.
    pub(super) fn url(&self, at_registry: &Url) -> Url {
        let path = at_registry.path();
        let is_here = same_origin(at_registry, &self.base) && path.starts_with(self.base.path());
        if is_here || !path.starts_with("/v2/") {
            return at_registry.clone();
        }
        let path = path.strip_prefix("/v2/").unwrap_or(path);
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url.set_query(at_registry.query());
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// A URL that a server has pointed to, with the `ns` that this one may have left out.
    pub(super) fn continued(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if let Some(namespace) = &self.namespace
            && same_origin(&url, &self.base)
            && !url.query_pairs().any(|(name, _)| name == "ns")
        {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// Notes that it could not be reached.
    pub(super) fn failed(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// Notes that it answered.
    pub(super) fn answered(&self) {
        *self.lock() = None;
    }

    fn is_failing(&self) -> bool {
        self.lock().is_some_and(|at| at.elapsed() < FAILED_PAUSE)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a registry's file was when it was read.
type Stamp = Option<(PathBuf, SystemTime, u64)>;

/// The servers of each registry, as its file had them when it was read.
type Known = HashMap<String, (Stamp, Arc<[Endpoint]>)>;

/// The servers of every registry that a client asks.
#[derive(Debug)]
pub(super) struct Hosts {
    directories: Vec<PathBuf>,
    known: Mutex<Known>,
}

impl Hosts {
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        Hosts {
            directories,
            known: Mutex::default(),
        }
    }

    /// The servers of a registry in their order, those that could not be reached lately last.
    /// The file is read again when it has changed.
    ///
    /// # Errors
    /// `Setup` where its file cannot be used; the message names file and line.
    pub(super) fn of(
        &self,
        host: &str,
        schemes: &Schemes,
        capability: Capability,
    ) -> Result<Servers, RegistryError> {
        let all = self.all(host, schemes)?;
        let fits = |number: &usize| {
            let server = &all[*number];
            let is_last = number + 1 == all.len();
            server.capabilities.has(capability)
                && match capability {
                    Capability::Pull | Capability::Resolve => true,
                    // Of the registry, or of the `server` that stands in its place.
                    Capability::List => is_last,
                    // What is written has to be at the registry itself.
                    Capability::Push => server.namespace.is_none(),
                }
        };
        let mut order: Vec<usize> = (0..all.len()).filter(fits).collect();
        order.sort_by_key(|number| all[*number].is_failing());
        Ok(Servers { all, order })
    }

    fn all(&self, host: &str, schemes: &Schemes) -> Result<Arc<[Endpoint]>, RegistryError> {
        let stamp = self.find(host);
        if let Some((read, known)) = self.lock().get(host)
            && *read == stamp
        {
            return Ok(known.clone());
        }
        let endpoints: Arc<[Endpoint]> = match &stamp {
            None => Arc::from([Endpoint::plain(host, schemes)?]),
            Some((path, _, _)) => file::read(path, host, schemes)
                .map_err(|reason| RegistryError::Setup {
                    reason: format!("{}: {reason}", path.display()),
                })?
                .into(),
        };
        self.lock()
            .insert(host.to_owned(), (stamp, endpoints.clone()));
        Ok(endpoints)
    }

    /// The file, or directory of certificates, that a registry's servers are described by.
    fn find(&self, host: &str) -> Stamp {
        let names = directory_names(host);
        self.directories
            .iter()
            .flat_map(|directory| names.iter().map(|name| directory.join(name)))
            .find_map(|directory| {
                stamp(&directory.join("hosts.toml")).or_else(|| stamp(&directory))
            })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((
        path.to_path_buf(),
        metadata.modified().ok()?,
        metadata.len(),
    ))
}

/// The names that a registry's directory may have.
fn directory_names(host: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((name, port)) = host.rsplit_once(':') {
        names.push(format!("{name}_{port}_"));
    }
    names.extend([host.to_owned(), "_default".to_owned()]);
    names
}

/// The servers that can answer one request, in the order of trying.
pub(super) struct Servers {
    all: Arc<[Endpoint]>,
    order: Vec<usize>,
}

impl Servers {
    /// The server of these that a URL lies at; the registry's own where it lies at none.
    pub(super) fn at(&self, url: &Url) -> Option<&Endpoint> {
        self.iter()
            .find(|server| same_origin(url, &server.base))
            .or(self.all.last())
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Endpoint> {
        self.order.iter().map(|number| &self.all[*number])
    }
}

/// True where a server is the registry's own, so that it needs no telling which one it is.
fn is_own(host: &str, server: &str) -> bool {
    server == host || (host == HUB && server == api_host(HUB))
}

#[cfg(test)]
mod tests;
