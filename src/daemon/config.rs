//! The configuration file: TOML, every key optional.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use crate::daemon::control::Background;
use crate::daemon::metrics::Address;
use brisk_image::sign::{KeyError, PublicKey, SigningKey};
use brisk_image::trust::Policy;
use brisk_indexer::{IndexOptions, MAX_STREAM_SIZE};
use brisk_layer::FetchLimits;
use brisk_registry::Reference;
pub use mistake::Mistake;
pub use values::{ByteSize, parse_duration};

mod mistake;
mod values;

/// Where the configuration is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/brisk/config.toml";

/// The configuration, with its defaults.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The cache of layer content.
    pub cache: CacheConfig,
    /// Fetching.
    pub fetch: FetchConfig,
    /// Registries.
    pub registry: RegistryConfig,
    /// Which indexes are accepted.
    pub trust: TrustConfig,
    /// Publishing of indexes.
    pub publish: PublishConfig,
    /// The mount service.
    pub service: ServiceConfig,
    /// What is refused for its size.
    pub limits: LimitsConfig,
    /// What monitoring is told.
    pub metrics: MetricsConfig,
    /// containerd's snapshots.
    pub snapshotter: SnapshotterConfig,
}

/// containerd's snapshots.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotterConfig {
    /// What becomes of a layer that nobody has an acceptable index of.
    pub without_index: WithoutIndex,
}

/// What becomes of a layer of containerd's that nobody has an acceptable index of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WithoutIndex {
    /// It is pulled whole here, and indexed on the way.
    #[default]
    Fetch,
    /// containerd fetches and unpacks it, and every layer above it.
    Containerd,
}

/// What monitoring is told.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where `/metrics` and `/healthz` are served; nowhere by default.
    pub address: Option<Address>,
}

/// Publishing of indexes.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct PublishConfig {
    /// Attach the indexes of images that had none, and were pulled whole, for everyone else.
    pub auto: bool,
    /// Where indexes are attached, and looked for besides: a repository, `host/name`. Default:
    /// the image's own.
    #[serde(deserialize_with = "repository")]
    pub repository: Option<String>,
    /// The file of the private key that signs them.
    pub key: Option<PathBuf>,
    /// Longest wait before they are attached, of which a random part is waited: of many nodes
    /// that pulled an image at the same time one attaches them.
    #[serde(deserialize_with = "duration")]
    pub delay: Duration,
}

impl Default for PublishConfig {
    fn default() -> Self {
        PublishConfig {
            auto: false,
            repository: None,
            key: None,
            delay: Duration::from_secs(30),
        }
    }
}

fn repository<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.parse::<Reference>().map_err(de::Error::custom)?;
    let name = parsed.repository().to_string();
    match name == text {
        true => Ok(Some(text)),
        false => Err(de::Error::custom(format!(
            "{text:?} is not a repository in full, such as {name:?}"
        ))),
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text)
        .ok_or_else(|| de::Error::custom(format!("{text:?} is not a time such as \"30s\"")))
}

/// What is refused for its size.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Uncompressed bytes of one layer; default [`MAX_STREAM_SIZE`].
    pub layer_size: Option<ByteSize>,
}

impl LimitsConfig {
    /// How layers are indexed under these limits.
    pub fn index_options(&self) -> IndexOptions {
        IndexOptions {
            max_stream_size: self.layer_size.map_or(MAX_STREAM_SIZE, |size| size.0),
            ..IndexOptions::default()
        }
    }
}

/// The mount service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// What becomes of mounts that nobody serves.
    pub orphan_timeout: OrphanTimeout,
}

/// How long mounts wait for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrphanTimeout {
    /// For ever.
    #[default]
    Off,
    /// So long; then the keeper aborts them, and what waits on them gets an error.
    After(Duration),
}

impl OrphanTimeout {
    /// The limit, where there is one.
    pub fn limit(self) -> Option<Duration> {
        match self {
            OrphanTimeout::Off => None,
            OrphanTimeout::After(limit) => Some(limit),
        }
    }
}

impl fmt::Display for OrphanTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrphanTimeout::Off => f.write_str("off"),
            OrphanTimeout::After(limit) => write!(f, "{}s", limit.as_secs()),
        }
    }
}

/// The cache of layer content.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes that layer content may take on disk; default 80 % of the root's file system, and
    /// never so much that less than 5 % of it stays free.
    pub budget: Option<ByteSize>,
}

/// Fetching.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct FetchConfig {
    /// What is fetched while nothing is asked for.
    pub background: Background,
    /// What a read does while its content cannot be had.
    pub on_outage: OnOutage,
    /// Requests for layer content at a time to one registry; two of them are kept for reads
    /// that wait.
    pub connections: NonZeroU32,
    /// Compressed bytes of layers on their way from one registry.
    pub in_flight: ByteSize,
}

impl FetchConfig {
    /// The limits of one registry.
    pub fn limits(&self) -> FetchLimits {
        FetchLimits {
            connections: self.connections.get(),
            in_flight_bytes: self.in_flight.0,
        }
    }
}

impl Default for FetchConfig {
    fn default() -> Self {
        let limits = FetchLimits::default();
        FetchConfig {
            background: Background::default(),
            on_outage: OnOutage::default(),
            connections: NonZeroU32::new(limits.connections).unwrap_or(NonZeroU32::MIN),
            in_flight: ByteSize(limits.in_flight_bytes),
        }
    }
}

/// What a read does while its content cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOutage {
    /// It waits so long, then fails with EIO.
    Wait(Duration),
    /// It waits for ever (it can be killed).
    Forever,
    /// It fails with EIO when the retries of one request are used up.
    Eio,
}

impl Default for OnOutage {
    fn default() -> Self {
        OnOutage::Wait(Duration::from_secs(300))
    }
}

/// Registries.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Hosts (`host[:port]`) that are spoken to by plain HTTP; loopback always is.
    pub plain_http: Vec<String>,
    /// Loopback hosts (`host[:port]`) that are spoken to by TLS all the same.
    pub https: Vec<String>,
    /// Files with certificates of further authorities, PEM.
    pub ca_files: Vec<PathBuf>,
    /// Directories of containerd's `hosts.toml` files: mirrors and settings of registries.
    pub hosts_dirs: Vec<PathBuf>,
}

/// Which indexes are accepted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TrustConfig {
    /// Policy by repository (`host/name`), by the longest matching prefix that ends at a `/`.
    pub repositories: BTreeMap<String, Policy>,
    /// Files with the public keys whose signatures of indexes are believed, by repository as
    /// above.
    pub keys: BTreeMap<String, Vec<PathBuf>>,
}

/// The value for a repository: that of the longest matching prefix that ends at a `/`.
fn by_prefix<'a, T>(values: &'a BTreeMap<String, T>, repository: &str) -> Option<&'a T> {
    let is_prefix = |prefix: &str| {
        repository
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    values
        .iter()
        .filter(|(prefix, _)| is_prefix(prefix.trim_end_matches('/')))
        .max_by_key(|(prefix, _)| prefix.len())
        .map(|(_, value)| value)
}

impl TrustConfig {
    /// The policy that is configured for a repository, if any.
    pub fn policy(&self, repository: &str) -> Option<Policy> {
        by_prefix(&self.repositories, repository).copied()
    }

    /// The keys that are believed for a repository. A file that has become unreadable since the
    /// configuration was read is named in the log, and nothing is believed for its sake.
    pub fn keys_of(&self, repository: &str) -> Vec<PublicKey> {
        let files = by_prefix(&self.keys, repository).into_iter().flatten();
        files
            .filter_map(|file| match PublicKey::read(file) {
                Ok(key) => Some(key),
                Err(error) => {
                    tracing::warn!("{error}");
                    None
                }
            })
            .collect()
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("configuration {}, line {}{}: {}", path.display(), mistake.line, mistake.shown_key(), mistake.message)]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        mistake: Mistake,
    },
    /// A file or directory that it names cannot be used.
    #[error("configuration {}, key {key}: {}: {source}", path.display(), named.display())]
    Named {
        /// The configuration's file.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// What is named.
        named: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            ConfigError::Read { .. } => "name a file that can be read: --config FILE".to_owned(),
            ConfigError::Parse { .. } => {
                "mend that line; `brisk daemon --check-config` looks at the file again".to_owned()
            }
            ConfigError::Named { .. } => "make it, or take it out of the configuration".to_owned(),
        }
    }
}

impl Config {
    /// Reads the named file, or the default one where it exists.
    ///
    /// # Errors
    /// Where a named file is missing, or the text is no configuration.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Config::default());
            }
            Err(source) => {
                return Err(ConfigError::Read {
                    path: path.to_path_buf(),
                    source,
                });
            }
        };
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_path_buf(),
            mistake: Mistake::of(&text, &error),
        })?;
        config.check_keys(path)?;
        Ok(config)
    }

    /// Whether the keys that it names are some: found out before anything relies on them.
    fn check_keys(&self, path: &Path) -> Result<(), ConfigError> {
        let named = |key, file: &Path, error: KeyError| ConfigError::Named {
            path: path.to_path_buf(),
            key,
            named: file.to_path_buf(),
            source: std::io::Error::other(error),
        };
        for file in self.trust.keys.values().flatten() {
            PublicKey::read(file).map_err(|error| named("trust.keys", file, error))?;
        }
        if let Some(file) = &self.publish.key {
            SigningKey::read(file).map_err(|error| named("publish.key", file, error))?;
        }
        Ok(())
    }

    /// Reads the file as [`Self::load`] does, and looks whether what it names can be used; gives
    /// the file's path.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
        let config = Self::load(named)?;
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let unusable = |key, named: &PathBuf, source| ConfigError::Named {
            path: path.to_path_buf(),
            key,
            named: named.clone(),
            source,
        };
        for file in &config.registry.ca_files {
            std::fs::File::open(file).map_err(|e| unusable("registry.ca_files", file, e))?;
        }
        for directory in &config.registry.hosts_dirs {
            std::fs::read_dir(directory)
                .map_err(|e| unusable("registry.hosts_dirs", directory, e))?;
        }
        Ok(path.to_path_buf())
    }
}

#[cfg(test)]
mod tests;
