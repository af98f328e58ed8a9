//! What a service takes from the command that starts it and keeps for its whole life.
//!
//! The service writes it down; a later command whose own differ is told what is ignored.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use index_format::Digest;
use serde::{Deserialize, Serialize};

use crate::daemon::config::DEFAULT_PATH;

/// Name of the file in the root's `run` directory.
const FILE: &str = "service.settings";

/// The environment that decides how registries are reached.
const VARIABLES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The options that a service takes from the command that starts it; none where they were not
/// given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartOptions {
    /// `--config`, absolute.
    pub config: Option<PathBuf>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
}

/// What a service was started with, or a command asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    options: StartOptions,
    /// Digest of the configuration file; none where there is no file.
    config_digest: Option<String>,
    /// Digests of the variables that are set: a proxy's value may hold a password.
    variables: BTreeMap<String, String>,
}

impl Settings {
    /// The settings of this very process under those options.
    pub fn of_process(options: StartOptions) -> Self {
        let path = options.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        let config_digest = std::fs::read(path)
            .ok()
            .map(|text| Digest::of(&text).to_string());
        let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let variables = VARIABLES.into_iter().filter_map(|name| {
            let digest = Digest::of(value(name)?.as_encoded_bytes());
            Some((name.to_owned(), digest.to_string()))
        });
        Settings {
            variables: variables.collect(),
            config_digest,
            options,
        }
    }

    /// Writes them down below `run`, for the commands to come.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn write(&self, run: &Path) -> io::Result<()> {
        // Replaced in one step: a command may read it at any moment.
        let (path, part) = (run.join(FILE), run.join("service.settings.part"));
        std::fs::write(&part, serde_json::to_vec(self)?)?;
        std::fs::rename(part, path)
    }

    /// What the service of the root with that `run` directory has written down; none where that
    /// cannot be read.
    pub fn read(run: &Path) -> Option<Self> {
        let bytes = std::fs::read(run.join(FILE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// What a command with these settings asks for in vain of a service that runs with others,
    /// each in a few words.
    pub fn ignored_by(&self, running: &Settings) -> Vec<String> {
        let mut ignored = Vec::new();
        ignored.extend(self.ignored_config(running));
        let (own, its) = (&self.options, &running.options);
        for (option, own, its) in [
            ("--log-level", &own.log_level, &its.log_level),
            ("--log-format", &own.log_format, &its.log_format),
        ] {
            // It holds for this command's own words all the same.
            if let Some(own) = own.as_ref().filter(|_| own != its) {
                let its = its.as_deref().unwrap_or("the default");
                ignored.push(format!("{option} {own} (it has {its})"));
            }
        }
        for name in VARIABLES {
            match (self.variables.get(name), running.variables.get(name)) {
                (own, its) if own == its => {}
                (Some(_), Some(_)) => ignored.push(format!("{name} (it has another value)")),
                (Some(_), None) => ignored.push(format!("{name} (it has none)")),
                (None, _) => ignored.push(format!("that {name} is not set (it has one)")),
            }
        }
        ignored
    }

    fn ignored_config(&self, running: &Settings) -> Option<String> {
        if self.config_digest == running.config_digest {
            return None;
        }
        let default = Path::new(DEFAULT_PATH);
        let named = self.options.config.as_deref();
        let (own, its) = (
            named.unwrap_or(default),
            running.options.config.as_deref().unwrap_or(default),
        );
        // Nobody named one and there is none: nothing is asked for.
        if named.is_none() && self.config_digest.is_none() && own != its {
            return None;
        }
        let own_shown = own.display();
        Some(match (own == its, running.config_digest.is_some()) {
            (true, _) => format!("what has changed in {own_shown} since it was started"),
            (false, true) => format!("configuration {own_shown} (it has {})", its.display()),
            (false, false) => format!("configuration {own_shown} (it has none)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(config: Option<(&str, &str)>, level: Option<&str>, proxy: &str) -> Settings {
        let variable = |value: &str| ("HTTPS_PROXY".to_owned(), value.to_owned());
        Settings {
            options: StartOptions {
                config: config.map(|(path, _)| path.into()),
                log_level: level.map(str::to_owned),
                log_format: None,
            },
            config_digest: config.map(|(_, digest)| digest.to_owned()),
            variables: [proxy]
                .into_iter()
                .filter(|value| !value.is_empty())
                .map(variable)
                .collect(),
        }
    }

    #[test]
    fn only_what_differs_and_was_asked_for_is_named() {
        let plain = settings(None, None, "");
        let busy = settings(Some(("/a", "1")), Some("debug"), "p");
        assert_eq!(plain.ignored_by(&plain), Vec::<String>::new());
        assert_eq!(busy.ignored_by(&busy), Vec::<String>::new());
        assert_eq!(
            busy.ignored_by(&plain),
            [
                "configuration /a (it has none)",
                "--log-level debug (it has the default)",
                "HTTPS_PROXY (it has none)"
            ]
        );
        // Who gives no option asks for nothing; a variable that is not set does.
        assert_eq!(
            plain.ignored_by(&busy),
            ["that HTTPS_PROXY is not set (it has one)"]
        );
        let same_text = settings(Some(("/b", "1")), Some("debug"), "p");
        assert_eq!(same_text.ignored_by(&busy), Vec::<String>::new());
        let changed = settings(Some(("/a", "2")), None, "q");
        assert_eq!(
            changed.ignored_by(&busy),
            [
                "what has changed in /a since it was started",
                "HTTPS_PROXY (it has another value)"
            ]
        );
    }

    #[test]
    fn they_are_read_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(directory.path()), None);
        let written = settings(Some(("/a", "1")), Some("debug"), "p");
        written.write(directory.path()).unwrap();
        assert_eq!(Settings::read(directory.path()), Some(written));
    }
}
