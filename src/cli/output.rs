//! Data on stdout: JSON and tables.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::cli::error::{CliError, because};
use crate::cli::table;

/// Prints a value as one JSON document.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).map_err(because)?;
    finish(writeln!(out))
}

/// Prints rows under their heads, in columns.
pub fn print_table(
    heads: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<(), CliError> {
    let rows: Vec<Vec<String>> = rows.collect();
    finish(write!(
        io::stdout().lock(),
        "{}",
        table::render(heads, &rows)
    ))
}

/// Prints one line.
pub fn line(text: fmt::Arguments<'_>) -> Result<(), CliError> {
    finish(writeln!(io::stdout().lock(), "{text}"))
}

/// Prints bytes as they are.
pub fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    finish(io::stdout().lock().write_all(bytes))
}

/// A reader that has gone away (`brisk images | head`) is no failure.
fn finish(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(because),
    }
}
