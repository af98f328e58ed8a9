//! Options before the verb, and how failures are told.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::flags::{Flag, Parsed, take_flag};
use crate::error::{Error, Result};
use crate::log;

pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("root", None),
    Flag::value("log", None),
    Flag::value("log-format", None),
    Flag::value("criu", None),
    Flag::value("rootless", None),
    Flag::switch("debug", None),
    Flag::switch("systemd-cgroup", None),
    Flag::switch("version", Some('v')),
    Flag::switch("help", Some('h')),
];

/// The options before the verb.
#[derive(Clone, Debug)]
pub struct Global {
    /// Where states are kept.
    pub root: PathBuf,
    /// Whether to print the version.
    pub version: bool,
    /// Whether to print help.
    pub help: bool,
    /// Whether systemd makes the cgroups of new containers.
    pub systemd: bool,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/run/brisk-runtime"),
            version: false,
            help: false,
            systemd: false,
        }
    }
}

/// Splits a command line into the options before the verb and the rest.
///
/// # Errors
/// [`Error::Usage`].
pub fn parse(arguments: Vec<OsString>) -> Result<(Global, Vec<String>)> {
    let not_text =
        |word: OsString| Error::Usage(format!("{} is not valid UTF-8", word.to_string_lossy()));
    let words: Vec<String> = arguments
        .into_iter()
        .map(|word| word.into_string().map_err(not_text))
        .collect::<Result<_>>()?;
    let mut words = words.into_iter().peekable();
    let mut parsed = Parsed::default();
    while let Some(word) = words.next_if(|word| word.starts_with('-') && word != "-") {
        take_flag(FLAGS, &word, &mut words, &mut parsed)?;
    }
    let mut global = Global {
        version: parsed.is_on("version"),
        help: parsed.is_on("help"),
        systemd: parsed.is_on("systemd-cgroup"),
        ..Global::default()
    };
    let json = match parsed.value("log-format") {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            return Err(Error::Usage(format!(
                "--log-format: {other:?}: json or text"
            )));
        }
    };
    let path = parsed.value("log").map(PathBuf::from);
    log::open(path.as_ref(), json, parsed.is_on("debug"));
    if let Some(root) = parsed.value("root") {
        global.root = PathBuf::from(root);
    }
    Ok((global, words.collect()))
}

impl Global {
    /// Tells a failure on standard error and as the last line of the log.
    pub fn report(&self, error: &Error) -> ExitCode {
        let text = error.to_string();
        let _ = writeln!(std::io::stderr(), "brisk-runtime: {text}");
        log::error(&text);
        ExitCode::FAILURE
    }
}
