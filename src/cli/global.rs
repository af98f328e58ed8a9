//! Options of every verb, accepted before and after it.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Where all state lies unless `--root` says otherwise.
pub const DEFAULT_ROOT: &str = "/var/lib/brisk";

/// Options of every verb.
#[derive(Clone, Debug, clap::Args)]
pub struct GlobalOptions {
    /// Directory of all state: images, indexes, cache, containers
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_ROOT)]
    pub root: PathBuf,

    /// Configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Talk to registries without TLS
    #[arg(long, global = true)]
    pub plain_http: bool,

    /// What to tell on stderr [default: warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,

    /// How to tell it [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// How much is told on stderr.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may fail soon.
    #[default]
    Warn,
    /// And what happened.
    Info,
    /// And how.
    Debug,
    /// And every step.
    Trace,
}

/// How it is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        })
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

impl GlobalOptions {
    /// The same options on a command line, for another process of brisk. Paths become
    /// absolute: that process works in another directory.
    pub fn to_arguments(&self) -> Vec<OsString> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path)
                .unwrap_or_else(|_| path.clone())
                .into_os_string()
        };
        let mut arguments: Vec<OsString> = vec!["--root".into(), absolute(&self.root)];
        if let Some(config) = &self.config {
            arguments.extend(["--config".into(), absolute(config)]);
        }
        if self.plain_http {
            arguments.push("--plain-http".into());
        }
        if let Some(level) = self.log_level {
            arguments.extend(["--log-level".into(), level.to_string().into()]);
        }
        if let Some(format) = self.log_format {
            arguments.extend(["--log-format".into(), format.to_string().into()]);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        global: GlobalOptions,
    }

    #[test]
    fn the_same_options_again() {
        let words = [
            "brisk",
            "--root",
            "/r",
            "--plain-http",
            "--log-level",
            "debug",
        ];
        let first = Line::parse_from(words).global;
        let again = std::iter::once(OsString::from("brisk")).chain(first.to_arguments());
        let second = Line::parse_from(again).global;
        assert_eq!(first.to_arguments(), second.to_arguments());
        assert_eq!(second.log_level, Some(LogLevel::Debug));
        assert_eq!(second.log_format, None);
        assert!(second.plain_http && second.config.is_none());
    }
}
