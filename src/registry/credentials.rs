//! Credentials and where they come from. Nothing here is ever logged or displayed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};

use crate::host::{HUB, api_host};
use crate::limits::{CREDENTIAL_HELPER_TIMEOUT, MAX_AUTH_FILE_BYTES};
use crate::reference::Repository;

/// Docker's name for the Hub in its configuration files.
const HUB_CONFIG_KEY: &str = "https://index.docker.io/v1/";

/// One way to identify oneself. `Debug` shows the kind only.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// An identity (refresh) token, exchanged for a registry token by OAuth2.
    IdentityToken(String),
    /// A token to be sent to the registry as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(redacted)",
            Self::IdentityToken(_) => "IdentityToken(redacted)",
            Self::RegistryToken(_) => "RegistryToken(redacted)",
        })
    }
}

/// A place that may hold a credential. Several are tried in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A directory with Docker's `config.json`: `auths`, `credHelpers`, `credsStore`.
    DockerConfig(PathBuf),
    /// A file in the same format, such as `containers/auth.json`.
    AuthFile(PathBuf),
    /// A credential handed over for one registry host.
    Given {
        /// The host as references name it.
        host: String,
        /// The credential.
        credential: Credential,
    },
}

impl CredentialSource {
    /// The places where other tools of the calling user keep credentials: `$DOCKER_CONFIG`
    /// or `~/.docker`, then `$REGISTRY_AUTH_FILE` or `$XDG_RUNTIME_DIR/containers/auth.json`.
    pub fn from_environment() -> Vec<Self> {
        let path = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let docker =
            path("DOCKER_CONFIG").or_else(|| path("HOME").map(|home| home.join(".docker")));
        let file = path("REGISTRY_AUTH_FILE")
            .or_else(|| path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")));
        docker
            .map(Self::DockerConfig)
            .into_iter()
            .chain(file.map(Self::AuthFile))
            .collect()
    }

    /// The credential for a repository, or why there is none, in words for the user.
    ///
    /// Files and helpers block and are left to a thread of their own, for at most
    /// [`CREDENTIAL_HELPER_TIMEOUT`].
    pub(super) async fn look_up(&self, repository: &Repository) -> Result<Credential, String> {
        let file = match self {
            Self::Given { host, credential } if host == repository.host() => {
                return Ok(credential.clone());
            }
            Self::Given { host, .. } => return Err(format!("the credential is for {host}")),
            Self::DockerConfig(dir) => dir.join("config.json"),
            Self::AuthFile(file) => file.clone(),
        };
        let shown = file.display().to_string();
        let keys = config_keys(repository);
        let search = tokio::task::spawn_blocking(move || search_file(&file, &keys));
        match tokio::time::timeout(CREDENTIAL_HELPER_TIMEOUT, search).await {
            Ok(Ok(found)) => found.map_err(|reason| format!("{shown}: {reason}")),
            Ok(Err(_)) => Err(format!("{shown}: reading it was interrupted")),
            Err(_) => Err(format!(
                "{shown}: no answer in {CREDENTIAL_HELPER_TIMEOUT:?}"
            )),
        }
    }
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DockerConfig(dir) => write!(f, "{}", dir.join("config.json").display()),
            Self::AuthFile(file) => write!(f, "{}", file.display()),
            Self::Given { host, .. } => write!(f, "the credential given for {host}"),
        }
    }
}

/// The names under which configuration files may list a repository's registry. The Hub has
/// several, and its URL is what credential stores know it by. For other registries there is
/// one: with a second, a store would be asked where the registry's own helper said no.
fn config_keys(repository: &Repository) -> Vec<String> {
    let host = repository.host();
    if host == HUB {
        vec![
            HUB_CONFIG_KEY.to_owned(),
            HUB.to_owned(),
            api_host(HUB).to_owned(),
        ]
    } else {
        vec![host.to_owned()]
    }
}

fn search_file(file: &Path, keys: &[String]) -> Result<Credential, String> {
    let mut text = Vec::new();
    File::open(file)
        .and_then(|f| f.take(MAX_AUTH_FILE_BYTES).read_to_end(&mut text))
        .map_err(|error| error.to_string())?;
    let mut reasons = Vec::new();
    for key in keys {
        match docker_credential::get_credential_from_reader(text.as_slice(), key) {
            Ok(DockerCredential::IdentityToken(token)) => {
                return Ok(Credential::IdentityToken(token));
            }
            // `docker logout` leaves entries like this behind.
            Ok(DockerCredential::UsernamePassword(user, password))
                if user.is_empty() && password.is_empty() => {}
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok(Credential::Basic { user, password });
            }
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(error) => reasons.push(reason(&error)),
        }
    }
    reasons.dedup();
    match reasons.is_empty() {
        true => Err("no entry for this registry".to_owned()),
        false => Err(reasons.join("; ")),
    }
}

/// Words for a failure. A helper's output is left out: it may hold what it was asked for.
fn reason(error: &CredentialRetrievalError) -> String {
    match error {
        CredentialRetrievalError::HelperFailure { helper, .. } => {
            format!("{helper} has no credential or failed")
        }
        CredentialRetrievalError::HelperCommunicationError => {
            "its credential helper cannot be run".to_owned()
        }
        CredentialRetrievalError::MalformedHelperResponse => {
            "its credential helper gave no readable answer".to_owned()
        }
        CredentialRetrievalError::CredentialDecodingError => {
            "an entry is not base64 of user:password".to_owned()
        }
        CredentialRetrievalError::ConfigReadError => "not readable as JSON".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
