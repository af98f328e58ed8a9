//! Options that every verb takes, before or after it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Form of the log on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Options that every verb takes, before or after it.
#[derive(Args, Clone, Debug)]
pub struct GlobalOptions {
    /// Directory of all state: images, cache, containers, sockets
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/brisk")]
    pub root: PathBuf,
    /// Configuration file [default: /etc/brisk/config.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Speak plain HTTP to the registry (loopback registries always are)
    #[arg(long, global = true)]
    pub plain_http: bool,
    /// Least severe messages to log: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    pub log_level: String,
    /// Form of the log on stderr
    #[arg(long, global = true, value_enum, default_value_t)]
    pub log_format: LogFormat,
}
