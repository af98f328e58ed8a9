//! Data on stdout: JSON and tables; words on stderr.

use std::fmt;
use std::io::{self, Write};

use indicatif::HumanBytes;
use serde::Serialize;

use crate::cli::error::{CliError, because};
use crate::cli::table;

/// Prints a value as one JSON document.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(because)?;
    finish(writeln!(io::stdout().lock(), "{text}"))
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

/// Heads of the columns that [`sizes`] fills: the same units everywhere. What is present is a part
/// of the uncompressed size.
pub const SIZE_HEADS: [&str; 3] = ["COMPRESSED", "UNCOMPRESSED", "PRESENT"];

/// Compressed size, uncompressed size and the present part of the latter, in bytes, for people.
pub fn sizes(compressed: u64, uncompressed: Option<u64>, present: u64) -> [String; 3] {
    let share = |whole: u64| {
        let percent = u128::from(present.min(whole)) * 100 / u128::from(whole.max(1));
        format!("{} ({percent} %)", HumanBytes(present))
    };
    [
        HumanBytes(compressed).to_string(),
        uncompressed.map_or_else(|| "-".to_owned(), |size| HumanBytes(size).to_string()),
        match uncompressed {
            Some(whole) if whole > 0 => share(whole),
            _ => HumanBytes(present).to_string(),
        },
    ]
}

/// Prints bytes as they are.
pub fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    finish(io::stdout().lock().write_all(bytes))
}

/// Says a line on stderr. Where nobody listens there, nobody can be told.
pub fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A reader that has gone away (`brisk images | head`) is no failure.
fn finish(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(because),
    }
}

#[cfg(test)]
mod tests {
    use super::sizes;

    #[test]
    fn what_is_present_is_a_part_of_the_uncompressed_size() {
        let [compressed, uncompressed, present] = sizes(1 << 20, Some(4 << 20), 1 << 20);
        assert_eq!(
            [compressed.as_str(), &uncompressed, &present],
            ["1.00 MiB", "4.00 MiB", "1.00 MiB (25 %)"]
        );
        assert_eq!(sizes(0, Some(u64::MAX), u64::MAX)[2], "16.00 EiB (100 %)");
        assert_eq!(sizes(1024, None, 0), ["1.00 KiB", "-", "0 B"]);
        assert_eq!(sizes(32, Some(0), 0)[2], "0 B");
    }
}
