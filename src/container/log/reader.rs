//! Reads the log back, across its two files and while it grows.

use super::{Entry, Stream, older};
use crate::error::ContainerError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of one line of the file: an entry's text with every byte escaped (`\u0000`).
const MAX_LINE_BYTES: usize = super::MAX_ENTRY_TEXT * 6 + 256;

/// A position in a container's log.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// Files still to be read, oldest first.
    files: VecDeque<BufReader<File>>,
    /// The inode of the newest file opened.
    newest: Option<u64>,
    line: Vec<u8>,
}

/// A piece of a container's output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    /// RFC 3339, when its end arrived.
    pub time: String,
    /// Where it was written.
    pub stream: Stream,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl LogReader {
    /// Opens the log at `path` at its beginning. A log that does not exist yet is empty.
    pub fn open(path: &Path) -> Result<LogReader, ContainerError> {
        let mut reader = LogReader {
            path: path.to_path_buf(),
            files: VecDeque::new(),
            newest: None,
            line: Vec::new(),
        };
        let newest = open(path)?;
        if let Some(file) = open(&older(path))?
            && newest.as_ref().map(inode) != Some(inode(&file))
        {
            reader.newest = Some(inode(&file));
            reader.files.push_back(BufReader::new(file));
        }
        if let Some(file) = newest {
            reader.newest = Some(inode(&file));
            reader.files.push_back(BufReader::new(file));
        }
        Ok(reader)
    }

    /// The next piece; none at the end of what has been written so far.
    pub fn next_output(&mut self) -> Result<Option<Output>, ContainerError> {
        loop {
            if !self.read_line()? {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.line);
            // A line cut short by a crash, or damaged, is skipped: the rest is worth more.
            if let Some(output) = decode(&line) {
                return Ok(Some(output));
            }
        }
    }

    /// The last `count` lines, leaving the reader at the end.
    pub fn tail(&mut self, count: usize) -> Result<VecDeque<Output>, ContainerError> {
        let mut last: VecDeque<Output> = VecDeque::new();
        let mut lines = 0;
        while let Some(output) = self.next_output()? {
            lines += usize::from(output.bytes.ends_with(b"\n"));
            last.push_back(output);
            let open_end = usize::from(!last.back().is_some_and(is_whole));
            while lines + open_end > count {
                let Some(first) = last.pop_front() else { break };
                lines -= usize::from(is_whole(&first));
            }
        }
        Ok(last)
    }

    /// Reads a whole line into `self.line`, going on to the next file at the end of one.
    fn read_line(&mut self) -> Result<bool, ContainerError> {
        loop {
            if self.files.is_empty() && !self.open_newer()? {
                return Ok(false);
            }
            let Some(file) = self.files.front_mut() else {
                return Ok(false);
            };
            let read = read_limited(file, &mut self.line);
            read.map_err(ContainerError::file("read", &self.path))?;
            if self.line.ends_with(b"\n") {
                return Ok(true);
            }
            // At the end of this file. It is done with only if a newer one is there.
            if self.files.len() > 1 {
                self.files.pop_front();
                self.line.clear();
            } else if !self.open_newer()? {
                return Ok(false);
            }
        }
    }

    /// Opens the file that has replaced the newest one known, if any.
    fn open_newer(&mut self) -> Result<bool, ContainerError> {
        match open(&self.path)? {
            Some(file) if Some(inode(&file)) != self.newest => {
                self.newest = Some(inode(&file));
                self.files.push_back(BufReader::new(file));
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

fn is_whole(output: &Output) -> bool {
    output.bytes.ends_with(b"\n")
}

fn inode(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.ino())
}

fn open(path: &Path) -> Result<Option<File>, ContainerError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ContainerError::file("open", path)(error)),
    }
}

/// Appends to `line` up to and with the next newline, or what there is.
fn read_limited(file: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let available = file.fill_buf()?;
        if available.is_empty() {
            return Ok(());
        }
        let newline = available.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(available.len(), |at| at + 1);
        line.extend_from_slice(&available[..used]);
        file.consume(used);
        if newline.is_some() {
            return Ok(());
        }
        if line.len() > MAX_LINE_BYTES {
            line.clear();
        }
    }
}

fn decode(line: &[u8]) -> Option<Output> {
    let entry: Entry = serde_json::from_slice(line).ok()?;
    let bytes = match (entry.log, entry.base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => STANDARD.decode(text).ok()?,
        _ => return None,
    };
    Some(Output {
        time: entry.time,
        stream: entry.stream,
        bytes,
    })
}
