//! What is told beside results: lines on standard error or in the file that `--log` names, in the
//! form that shims read.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::state::rfc3339;

/// Where lines go and which.
#[derive(Debug, Default)]
struct Log {
    /// Opened before the container's root is changed, so that its first process reaches it too.
    file: Option<File>,
    json: bool,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Sets the destination, once: `path` or standard error, JSON lines or text, with debugging or
/// without. A log that cannot be written must not hide the failures that would be in it, so
/// standard error takes its place.
pub fn open(path: Option<&PathBuf>, json: bool, debug: bool) {
    let open = |path| {
        let mut options = File::options();
        options.append(true).create(true).mode(0o644);
        options.open(path).ok()
    };
    let file = path.and_then(open);
    let _ = LOG.set(Log { file, json, debug });
}

/// What made the verb fail, for the log file alone: standard error has it in plain words.
pub fn error(text: &str) {
    if let Some(file) = LOG.get().and_then(|log| log.file.as_ref()) {
        write(file, "error", text);
    }
}

/// What the caller should know though the verb goes on.
pub fn warning(text: &str) {
    tell("warning", text);
}

/// What helps to find out why; only with `--debug`.
pub fn debug(text: &str) {
    if LOG.get().is_some_and(|log| log.debug) {
        tell("debug", text);
    }
}

fn tell(level: &str, text: &str) {
    match LOG.get().and_then(|log| log.file.as_ref()) {
        Some(file) => write(file, level, text),
        None => write(std::io::stderr(), level, text),
    }
}

/// One write, so that lines of several processes do not mix.
fn write(mut to: impl Write, level: &str, text: &str) {
    let json = LOG.get().is_some_and(|log| log.json);
    let _ = to.write_all(line(json, level, text, &rfc3339(SystemTime::now())).as_bytes());
}

fn line(json: bool, level: &str, text: &str, time: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    if json {
        format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n")
    } else {
        format!("time=\"{time}\" level={level} msg={quoted}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_whatever_the_text_holds() {
        let json = line(true, "error", "a \"b\"\nc", "now");
        assert_eq!(json.lines().count(), 1);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["msg"], "a \"b\"\nc");
        let text = line(false, "debug", "a\nb", "now");
        assert_eq!(text, "time=\"now\" level=debug msg=\"a\\nb\"\n");
    }
}
