//! What a container wrote: JSON lines of time, stream and text, within a size.

mod reader;
mod writer;

pub use reader::{LogReader, Output};
pub use writer::LogWriter;

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Bytes of one log file; there are two, so a container keeps its last 16 to 32 MiB.
pub const MAX_LOG_BYTES: u64 = 16 << 20;
/// Bytes of one entry's text: a longer line is cut into several entries.
pub const MAX_ENTRY_TEXT: usize = 16 << 10;

/// Where a piece of output was written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, and a terminal's only stream.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// RFC 3339, when the end of the text arrived.
    pub time: String,
    /// Where it was written.
    pub stream: Stream,
    /// The text with its newline; an unfinished line has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The bytes in base64, where they are no UTF-8 text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// The older half of the log whose newer half is at `path`.
fn older(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".1");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
