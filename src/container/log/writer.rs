//! Writes the log. A full disk costs log lines, never the container.

use super::{Entry, MAX_ENTRY_TEXT, MAX_LOG_BYTES, Stream, older};
use crate::error::ContainerError;
use crate::timestamp::rfc3339;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The open log of one container.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
    unfinished: [Vec<u8>; 2],
    lost_bytes: u64,
}

impl LogWriter {
    /// Creates the log at `path`.
    pub fn create(path: &Path) -> Result<LogWriter, ContainerError> {
        LogWriter::with_limit(path, MAX_LOG_BYTES)
    }

    /// Creates the log with files of at most about `limit` bytes.
    pub fn with_limit(path: &Path, limit: u64) -> Result<LogWriter, ContainerError> {
        let file = open(path).map_err(ContainerError::file("create", path))?;
        let path = path.to_path_buf();
        Ok(LogWriter {
            path,
            file,
            size: 0,
            limit,
            unfinished: [Vec::new(), Vec::new()],
            lost_bytes: 0,
        })
    }

    /// Adds what arrived on `stream` at `time`. Lines are written when they end, or when
    /// they are long.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], time: SystemTime) {
        let time = rfc3339(time);
        let mut entries = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let unfinished = &mut self.unfinished[slot(stream)];
            let room = MAX_ENTRY_TEXT - unfinished.len();
            let line = rest
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(rest.len(), |at| at + 1);
            let (piece, after) = rest.split_at(line.min(room));
            unfinished.extend_from_slice(piece);
            rest = after;
            if unfinished.ends_with(b"\n") || unfinished.len() == MAX_ENTRY_TEXT {
                encode(&mut entries, stream, unfinished, &time);
                unfinished.clear();
            }
        }
        self.append(&entries);
    }

    /// Writes what has no newline at its end.
    pub fn finish(&mut self) {
        let time = rfc3339(SystemTime::now());
        let mut entries = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let unfinished = std::mem::take(&mut self.unfinished[slot(stream)]);
            if !unfinished.is_empty() {
                encode(&mut entries, stream, &unfinished, &time);
            }
        }
        self.append(&entries);
    }

    /// Bytes that could not be written.
    pub fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    fn append(&mut self, entries: &[u8]) {
        if entries.is_empty() {
            return;
        }
        let length = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(length) > self.limit {
            self.rotate();
        }
        match self.file.write_all(entries) {
            Ok(()) => self.size = self.size.saturating_add(length),
            Err(_) => {
                // What was written of it would spoil the next line.
                let _ = self.file.set_len(self.size);
                self.lost_bytes = self.lost_bytes.saturating_add(length);
            }
        }
    }

    fn rotate(&mut self) {
        let renamed = std::fs::rename(&self.path, older(&self.path));
        if let Ok(file) = renamed.and_then(|()| open(&self.path)) {
            self.file = file;
            self.size = 0;
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn slot(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

fn encode(entries: &mut Vec<u8>, stream: Stream, text: &[u8], time: &str) {
    let (log, base64) = match std::str::from_utf8(text) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(text))),
    };
    let entry = Entry {
        time: time.to_owned(),
        stream,
        log,
        base64,
    };
    serde_json::to_writer(&mut *entries, &entry).expect("strings always encode");
    entries.push(b'\n');
}
