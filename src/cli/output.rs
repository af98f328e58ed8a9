//! Data on stdout: JSON and tables.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::failure::{CliError, because};

/// Prints a value as one JSON document.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).map_err(because)?;
    finish(writeln!(out))
}

/// Prints rows under their heads, in columns.
pub fn table(
    heads: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<(), CliError> {
    let mut lines: Vec<Vec<String>> = vec![heads.iter().map(|h| (*h).to_owned()).collect()];
    lines.extend(rows);
    let width = |column: usize| {
        lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut out = io::stdout().lock();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        finish(writeln!(out, "{}", cells.join("  ").trim_end()))?;
    }
    Ok(())
}

/// A reader that has gone away (`brisk images | head`) is no failure.
fn finish(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(because),
    }
}
