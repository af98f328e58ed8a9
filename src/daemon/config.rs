//! The configuration file: TOML, every key optional.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::daemon::control::Background;
use brisk_image::trust::Policy;
use brisk_indexer::{IndexOptions, MAX_STREAM_SIZE};
use brisk_layer::FetchLimits;

/// Where the configuration is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/brisk/config.toml";

/// The configuration, with its defaults.
#[derive(Clone, Debug, Default, Deserialize)]
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
    /// The mount service.
    pub service: ServiceConfig,
    /// What is refused for its size.
    pub limits: LimitsConfig,
}

/// What is refused for its size.
#[derive(Clone, Debug, Default, Deserialize)]
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
#[derive(Clone, Debug, Default, Deserialize)]
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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Bytes that layer content may take on disk; default 80 % of the root's file system, and
    /// never so much that less than 5 % of it stays free.
    pub budget: Option<ByteSize>,
}

/// Fetching.
#[derive(Clone, Debug, Deserialize)]
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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Hosts (`host[:port]`) that are spoken to by plain HTTP; loopback always is.
    pub plain_http: Vec<String>,
    /// Loopback hosts (`host[:port]`) that are spoken to by TLS all the same.
    pub https: Vec<String>,
    /// Files with certificates of further authorities, PEM.
    pub ca_files: Vec<PathBuf>,
}

/// Which indexes are accepted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrustConfig {
    /// Policy by repository (`host/name`), by the longest matching prefix that ends at a `/`.
    pub repositories: BTreeMap<String, Policy>,
}

impl TrustConfig {
    /// The policy that is configured for a repository, if any.
    pub fn policy(&self, repository: &str) -> Option<Policy> {
        let is_prefix = |prefix: &str| {
            repository
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.repositories
            .iter()
            .filter(|(prefix, _)| is_prefix(prefix.trim_end_matches('/')))
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(_, policy)| *policy)
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
    /// The file is not a configuration; the message names line and column.
    #[error("configuration {}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
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
        toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_path_buf(),
            message: error.to_string().trim_end().to_owned(),
        })
    }
}

/// A number of bytes: `1073741824`, `"500MB"`, `"20GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is not a size such as 500MB or 20GiB");
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| error())?;
        let unit = match text[digits..].trim() {
            "" | "B" => 1,
            "k" | "kB" | "K" | "KB" => 1000,
            "M" | "MB" => 1000 * 1000,
            "G" | "GB" => 1000 * 1000 * 1000,
            "T" | "TB" => 1000u64.pow(4),
            "Ki" | "KiB" => 1 << 10,
            "Mi" | "MiB" => 1 << 20,
            "Gi" | "GiB" => 1 << 30,
            "Ti" | "TiB" => 1 << 40,
            _ => return Err(error()),
        };
        number.checked_mul(unit).map(ByteSize).ok_or_else(error)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or a size such as \"20GiB\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ByteSize, E> {
                u64::try_from(value)
                    .map(ByteSize)
                    .map_err(|_| E::custom(format!("size {value} is negative")))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<ByteSize, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Size)
    }
}

impl<'de> Deserialize<'de> for OnOutage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Word(String),
            Table { wait: String },
        }
        let error = |text: &str| {
            de::Error::custom(format!(
                "on_outage {text:?} is neither \"eio\" nor {{ wait = \"5m\" }} nor \
                 {{ wait = \"forever\" }}"
            ))
        };
        match Form::deserialize(deserializer)? {
            Form::Word(word) if word == "eio" => Ok(OnOutage::Eio),
            Form::Word(word) => Err(error(&word)),
            Form::Table { wait } if wait == "forever" => Ok(OnOutage::Forever),
            Form::Table { wait } => parse_duration(&wait)
                .map(OnOutage::Wait)
                .ok_or_else(|| error(&wait)),
        }
    }
}

impl<'de> Deserialize<'de> for OrphanTimeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "off" => Ok(OrphanTimeout::Off),
            text => parse_duration(text)
                .map(OrphanTimeout::After)
                .ok_or_else(|| {
                    de::Error::custom(format!(
                        "orphan_timeout {text:?} is neither \"off\" nor a time such as \"10m\""
                    ))
                }),
        }
    }
}

/// Seconds, minutes or hours: `30s`, `5m`, `1h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(seconds)
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_optional_and_has_its_default() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config.fetch.background, Background::Full);
        assert_eq!(
            config.fetch.on_outage,
            OnOutage::Wait(Duration::from_secs(300))
        );
        assert_eq!(config.fetch.limits(), FetchLimits::default());
        assert_eq!(config.cache.budget, None);
        assert_eq!(config.service.orphan_timeout, OrphanTimeout::Off);
    }

    #[test]
    fn every_key_is_read() {
        let config: Config = toml::from_str(
            r#"
            [cache]
            budget = "20GiB"
            [fetch]
            background = "until-ready"
            on_outage = { wait = "forever" }
            connections = 6
            in_flight = "64MiB"
            [registry]
            plain_http = ["registry.test:5000"]
            https = ["localhost:5443"]
            ca_files = ["/etc/ca.pem"]
            [trust.repositories]
            "registry.test:5000/a" = "strict"
            "registry.test:5000/a/b" = "registry"
            [service]
            orphan_timeout = "10m"
            [limits]
            layer_size = "2GiB"
            "#,
        )
        .unwrap();
        assert_eq!(config.cache.budget, Some(ByteSize(20 << 30)));
        assert_eq!(config.limits.index_options().max_stream_size, 2 << 30);
        assert_eq!(config.fetch.background, Background::UntilReady);
        assert_eq!(config.fetch.on_outage, OnOutage::Forever);
        let limits = FetchLimits {
            connections: 6,
            in_flight_bytes: 64 << 20,
        };
        assert_eq!(config.fetch.limits(), limits);
        assert_eq!(config.registry.https, ["localhost:5443"]);
        let after = OrphanTimeout::After(Duration::from_secs(600));
        assert_eq!(config.service.orphan_timeout, after);
        assert_eq!(
            config.trust.policy("registry.test:5000/a/b/c"),
            Some(Policy::Registry)
        );
        assert_eq!(
            config.trust.policy("registry.test:5000/a/x"),
            Some(Policy::Strict)
        );
        assert_eq!(config.trust.policy("registry.test:5000/ab"), None);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for text in [
            "[cache]\nbudgte = 1",
            "[cache]\nbudget = \"lots\"",
            "[fetch]\non_outage = \"x\"",
            "[service]\norphan_timeout = \"soon\"",
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }
}
