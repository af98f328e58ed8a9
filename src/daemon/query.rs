//! From a client's request to a query of the image floor: reference, registry client, platform,
//! policy.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Mutex;

use crate::daemon::config::Config;
use crate::daemon::control::{Failure, ImageRequest};
use brisk_image::platform::Platform;
use brisk_image::trust::Policy;
use brisk_image::{ImageError, Query};
use brisk_registry::{Client, ClientConfig, CredentialSource, ImageSource, Reference, Source};

/// What tells registry clients apart: connections, tokens and redirects are shared among
/// requests with the same of it.
type ClientKey = (Option<PathBuf>, BTreeSet<String>);

/// Makes queries; remembers registry clients.
pub struct Queries {
    config: Config,
    clients: Mutex<HashMap<ClientKey, Client>>,
}

impl Queries {
    /// Queries under that configuration.
    pub fn new(config: Config) -> Self {
        Queries {
            config,
            clients: Mutex::default(),
        }
    }

    /// The query that a client's request means.
    ///
    /// # Errors
    /// Where reference or platform are none.
    pub fn query(&self, image: &ImageRequest, refresh: bool) -> Result<Query, Failure> {
        let source: Source = image.reference.parse().map_err(|e| failure(&e, None))?;
        let platform = match &image.platform {
            Some(text) => text
                .parse()
                .map_err(|e: brisk_image::platform::PlatformError| failure(&e, None))?,
            None => Platform::host(),
        };
        let mut plain: BTreeSet<String> = self.config.registry.plain_http.iter().cloned().collect();
        if let Source::Registry(reference) = &source
            && image.plain_http
        {
            plain.insert(reference.repository().host().to_owned());
        }
        let client = self.client(image.docker_config.clone(), plain);
        let elsewhere = match (&source, &self.config.publish.repository) {
            (Source::Registry(image), Some(repository)) => Some(ImageSource::Registry {
                client: client.clone(),
                reference: repository
                    .parse::<Reference>()
                    .map_err(|e| failure(&e, None))?,
            })
            .filter(|elsewhere| elsewhere.scope() != image.repository().to_string()),
            _ => None,
        };
        let user_digest = source.has_user_digest();
        let reference = source.to_string();
        let source = ImageSource::new(client, source);
        let scope = source.scope();
        let policy = self
            .config
            .trust
            .policy(&scope)
            .unwrap_or_else(|| Policy::default_for(user_digest));
        Ok(Query {
            reference,
            source,
            elsewhere,
            platform,
            policy,
            keys: self.config.trust.keys_of(&scope),
            trusted_only: false,
            manifest: None,
            refresh,
        })
    }

    /// Metadata bytes and requests of all clients so far: bytes received, requests sent.
    pub fn trips(&self) -> (u64, u64) {
        let clients = self.clients.lock().expect("no holder of this lock panics");
        clients
            .values()
            .map(Client::trips)
            .fold((0, 0), |(bytes, requests), trips| {
                (bytes + trips.bytes_received, requests + trips.requests)
            })
    }

    fn client(&self, docker_config: Option<PathBuf>, plain_http: BTreeSet<String>) -> Client {
        let mut clients = self.clients.lock().expect("no holder of this lock panics");
        clients
            .entry((docker_config.clone(), plain_http.clone()))
            .or_insert_with(|| {
                Client::new(ClientConfig {
                    plain_http,
                    https: self.config.registry.https.iter().cloned().collect(),
                    ca_files: self.config.registry.ca_files.clone(),
                    hosts_dirs: self.config.registry.hosts_dirs.clone(),
                    credentials: match docker_config {
                        Some(directory) => vec![CredentialSource::DockerConfig(directory)],
                        None => CredentialSource::from_environment(),
                    },
                    ..ClientConfig::default()
                })
            })
            .clone()
    }
}

/// An error in the words of the control protocol.
pub fn failure(error: &dyn std::error::Error, hint: Option<String>) -> Failure {
    Failure {
        message: brisk_mount::error::describe(error),
        hint,
    }
}

/// An error of the image floor in the words of the control protocol.
pub fn image_failure(error: &ImageError) -> Failure {
    Failure {
        message: error.to_string(),
        hint: error.hint(),
    }
}
