//! The registry client: requests with authentication and redirects.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};

use crate::auth::{Authenticator, Refusal};
use crate::auth_slot::{Action, Authorization};
use crate::challenge::{self, Challenges};
use crate::credentials::CredentialSource;
use crate::error::RegistryError;
use crate::host::{Schemes, same_origin, shown};
use crate::hosts::{Capability, Endpoint, Hosts};
use crate::limits::MAX_REDIRECTS;
use crate::redirects::Redirects;
use crate::reference::Repository;
use crate::response::Response;
use crate::retry::RetryPolicy;
use crate::transport::{Outgoing, Timeouts, Transport, TransportConfig};
use crate::trips::TripCounts;
use index_format::Digest;

/// Refusals answered within one request: an expired token, a changed scope and a handful of
/// credential sources. A registry that refuses everything with ever new challenges ends here.
const MAX_REFUSALS: usize = 8;

/// What a client is made from. The defaults suit a public registry without credentials.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// Hosts, with port where references have one, reached by plain HTTP. Loopback hosts
    /// are anyway.
    pub plain_http: BTreeSet<String>,
    /// Loopback hosts that are reached by HTTPS nevertheless.
    pub https: BTreeSet<String>,
    /// PEM files of certificate authorities, besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// Directories of containerd's `hosts.toml` files: mirrors of registries and their settings.
    /// The first that has one for a registry decides.
    pub hosts_dirs: Vec<PathBuf>,
    /// Where credentials are looked for, in this order.
    pub credentials: Vec<CredentialSource>,
    /// Appended to the User-Agent header, to tell callers apart in a registry's log.
    pub user_agent_suffix: Option<String>,
    /// Limits of waiting.
    pub timeouts: Timeouts,
    /// Repetition of failed requests.
    pub retry: RetryPolicy,
}

/// A client for any number of registries. Cheap to clone; clones share connections, tokens
/// and redirect targets.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) transport: Arc<Transport>,
    pub(super) session: Arc<Session>,
    challenges: Arc<Challenges>,
    hosts: Arc<Hosts>,
}

/// What was obtained with one set of credentials, and must not serve another.
#[derive(Debug)]
pub(super) struct Session {
    auth: Authenticator,
    redirects: Redirects,
}

/// One request to a registry's API.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) repository: &'a Repository,
    pub(super) action: Action,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// The blob whose redirect target may be used and remembered.
    pub(super) blob: Option<Digest>,
}

impl Client {
    /// A client. Connections are made, and certificate roots read, when first needed.
    pub fn new(config: ClientConfig) -> Self {
        let agent = concat!("brisk/", env!("CARGO_PKG_VERSION"));
        let user_agent = match &config.user_agent_suffix {
            Some(suffix) => format!("{agent} {suffix}"),
            None => agent.to_owned(),
        };
        let transport = Arc::new(Transport::new(TransportConfig {
            schemes: Schemes {
                plain_http: config.plain_http,
                https: config.https,
            },
            ca_files: config.ca_files,
            user_agent,
            timeouts: config.timeouts,
            retry: config.retry,
        }));
        let challenges = Arc::new(Challenges::new());
        let hosts = Arc::new(Hosts::new(config.hosts_dirs));
        Self::assemble(transport, challenges, hosts, config.credentials)
    }

    /// This client with other credentials: it shares the connections, the counts and what
    /// is known about registries, not the tokens and redirect targets.
    #[must_use]
    pub fn with_credentials(&self, credentials: Vec<CredentialSource>) -> Self {
        let (transport, challenges) = (Arc::clone(&self.transport), Arc::clone(&self.challenges));
        Self::assemble(transport, challenges, Arc::clone(&self.hosts), credentials)
    }

    fn assemble(
        transport: Arc<Transport>,
        challenges: Arc<Challenges>,
        hosts: Arc<Hosts>,
        credentials: Vec<CredentialSource>,
    ) -> Self {
        let auth = Authenticator::new(Arc::clone(&transport), credentials, Arc::clone(&challenges));
        let session = Arc::new(Session {
            auth,
            redirects: Redirects::new(),
        });
        Self {
            transport,
            session,
            challenges,
            hosts,
        }
    }

    /// What the requests of this client, and of those that share its connections, have cost.
    pub fn trips(&self) -> TripCounts {
        self.transport.trips.counts()
    }

    /// The URL of `path` below `/v2/NAME/`.
    pub(super) fn url(&self, repository: &Repository, path: &str) -> Result<Url, RegistryError> {
        let mut url = self.transport.config.schemes.root(repository.host())?;
        // Both parts are of the reference grammar or hexadecimal: nothing needs encoding.
        url.set_path(&format!("/v2/{}/{path}", repository.name()));
        Ok(url)
    }

    /// A reading request to `path` below `/v2/NAME/`.
    pub(super) fn get<'a>(
        &self,
        repository: &'a Repository,
        path: &str,
    ) -> Result<Call<'a>, RegistryError> {
        Ok(Call {
            repository,
            action: Action::Pull,
            method: Method::GET,
            url: self.url(repository, path)?,
            headers: HeaderMap::new(),
            body: None,
            blob: None,
        })
    }

    /// Makes one attempt at `call`: authenticates, follows redirects, uses and remembers
    /// redirect targets. Any answer but a success is an error.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        if let Some(digest) = call.blob
            && let Some(target) = self.session.redirects.get(call.repository, digest)
            && let Some(response) = self.call_target(call, digest, &target).await?
        {
            return Ok(response);
        }
        self.call_servers(call).await
    }

    /// Asks the servers of the registry in turn.
    async fn call_servers(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let (schemes, host) = (&self.transport.config.schemes, call.repository.host());
        let servers = self.hosts.of(host, schemes, call.needs())?;
        let is_of_api =
            same_origin(&call.url, &schemes.root(host)?) && call.url.path().starts_with("/v2/");
        if !is_of_api && let Some(server) = servers.at(&call.url) {
            // What one server has pointed to is asked for there.
            let url = server.continued(&call.url);
            return self.call_server(call, server, url).await;
        }
        let mut last = None;
        for server in servers.iter() {
            match self.call_server(call, server, server.url(&call.url)).await {
                Ok(response) => {
                    server.answered();
                    return Ok(response);
                }
                Err(error) => {
                    if error.status().is_none() && error.is_retryable() {
                        server.failed();
                    }
                    if servers.iter().len() > 1 {
                        tracing::debug!(%error, server = %server.base, "a server is passed over");
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| RegistryError::Setup {
            reason: format!(
                "no server in the hosts.toml of {host} may {:?}",
                call.needs()
            ),
        }))
    }

    /// Asks a remembered redirect target. `None` when it has stopped working.
    async fn call_target(
        &self,
        call: &Call<'_>,
        digest: Digest,
        target: &Url,
    ) -> Result<Option<Response>, RegistryError> {
        let result = self.transport.send(call.outgoing(target, None)).await;
        let keep = match &result {
            Ok(response) => target_still_valid(response.status()),
            // Another server of the store may be reachable; the registry names it.
            Err(_) => false,
        };
        if !keep {
            self.session
                .redirects
                .forget(call.repository, digest, target);
        }
        let response = result?;
        match response.status() {
            status if status.is_success() => Ok(Some(response)),
            _ if keep => Err(response.into_error().await),
            _ => Ok(None),
        }
    }

    /// Asks one server of the registry at `url`, and follows where it points.
    async fn call_server(
        &self,
        call: &Call<'_>,
        server: &Endpoint,
        mut url: Url,
    ) -> Result<Response, RegistryError> {
        let auth = &self.session.auth;
        let repository = &server.repository(call.repository);
        let mut redirects = 0;
        let mut refusals = 0;
        loop {
            let at_registry = same_origin(&url, &server.base);
            let sent = match at_registry {
                true => auth.current(server, repository, call.action).await?,
                false => None,
            };
            let response = self
                .transport
                .send(call.outgoing_to(server, &url, sent.as_ref()))
                .await?;
            let status = response.status();
            if at_registry && is_refusal(status) && refusals < MAX_REFUSALS {
                refusals += 1;
                let refusal = refusal(&response, sent);
                auth.refused(server, repository, call.action, refusal)
                    .await?;
                continue;
            }
            if let Some(sent) = &sent {
                auth.accepted(repository, call.action, sent);
            }
            if is_redirect(status) && call.may_follow() {
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(refused_redirect(&call.url, "too many redirects"));
                }
                url = redirect_target(&response)?;
                self.transport.trips.redirect();
                continue;
            }
            if !status.is_success() {
                return Err(response.into_error().await);
            }
            if let Some(digest) = call.blob
                && !at_registry
            {
                self.session.redirects.put(call.repository, digest, url);
            }
            return Ok(response);
        }
    }
}

impl Call<'_> {
    fn outgoing(&self, url: &Url, authorization: Option<&Authorization>) -> Outgoing {
        let mut headers = self.headers.clone();
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.header.clone());
        }
        Outgoing {
            method: self.method.clone(),
            url: url.clone(),
            headers,
            body: self.body.clone(),
            tls: None,
        }
    }

    /// The same with a server's own headers and certificates, which go to no other host.
    fn outgoing_to(
        &self,
        server: &Endpoint,
        url: &Url,
        authorization: Option<&Authorization>,
    ) -> Outgoing {
        let mut outgoing = self.outgoing(url, authorization);
        if same_origin(url, &server.base) {
            for (name, value) in &server.headers {
                // A token takes the place of a configured password.
                if !(name == AUTHORIZATION && authorization.is_some()) {
                    outgoing.headers.append(name, value.clone());
                }
            }
            outgoing.tls = server.tls.clone();
        }
        outgoing
    }

    /// What its server must be trusted with: the meaning of a tag, and what refers to an image,
    /// nobody can check; content is checked by its digest.
    fn needs(&self) -> Capability {
        // The repository's name may have the words of the API in it.
        let api = format!("/v2/{}/", self.repository.name());
        let path = self.url.path();
        let below = path.strip_prefix(api.as_str()).unwrap_or_default();
        match self.action {
            Action::Push | Action::Delete => Capability::Push,
            Action::Pull if path.ends_with("/tags/list") => Capability::List,
            Action::Pull if below.starts_with("blobs/") => Capability::Pull,
            Action::Pull if below.starts_with("manifests/sha256:") => Capability::Pull,
            Action::Pull => Capability::Resolve,
        }
    }

    /// Uploads are not followed: their bytes would be sent again, to somewhere else.
    fn may_follow(&self) -> bool {
        self.method == Method::GET
    }
}

fn is_refusal(status: StatusCode) -> bool {
    // 403 too: some registries answer so to an expired token or password.
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// A target that answers so is still the right place: it may be busy, or the range wrong.
/// Anything else is taken for an expired signature or a moved object.
fn target_still_valid(status: StatusCode) -> bool {
    status.is_success() || status.is_server_error() || matches!(status.as_u16(), 408 | 416 | 429)
}

fn refusal(response: &Response, sent: Option<Authorization>) -> Refusal {
    let values = response.headers().get_all(WWW_AUTHENTICATE).iter();
    let challenge = challenge::preferred(values.filter_map(|value| value.to_str().ok()));
    Refusal {
        sent,
        status: response.status().as_u16(),
        challenge,
    }
}

fn refused_redirect(url: &Url, reason: &str) -> RegistryError {
    RegistryError::Redirect {
        at: shown(url),
        reason: reason.to_owned(),
    }
}

/// The URL that a response's Location header points to.
///
/// # Errors
/// `Redirect` where it is missing, no HTTP URL, or leads from HTTPS to plain HTTP.
pub(super) fn redirect_target(response: &Response) -> Result<Url, RegistryError> {
    let from = response.url();
    match response.header(LOCATION) {
        Some(location) => join_location(from, location),
        None => Err(refused_redirect(from, "no readable Location header")),
    }
}

fn join_location(from: &Url, location: &str) -> Result<Url, RegistryError> {
    let target = from
        .join(location)
        .map_err(|error| refused_redirect(from, &format!("its Location is no URL: {error}")))?;
    match (from.scheme(), target.scheme()) {
        (_, "https") | ("http", "http") => Ok(target),
        ("https", "http") => {
            let reason = format!("it leads from https to {}", shown(&target));
            Err(refused_redirect(from, &reason))
        }
        (_, scheme) => {
            let reason = format!("it leads to scheme {scheme:?}");
            Err(refused_redirect(from, &reason))
        }
    }
}

#[cfg(test)]
mod tests;
