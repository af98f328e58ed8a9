//! Verbs that take several containers: each is tried, each failure is told.

use super::error::CliError;
use brisk_container::ContainerError;
use std::io::Write;

/// Does `work` for each name and prints its result. The last failure is the verb's; those
/// before it are told on stderr.
pub fn for_each(
    names: &[String],
    mut work: impl FnMut(&str) -> Result<String, ContainerError>,
) -> Result<u8, CliError> {
    let mut failure: Option<CliError> = None;
    for name in names {
        match work(name) {
            Ok(text) => {
                // The work is done, whether or not somebody reads of it.
                let _ = writeln!(std::io::stdout(), "{text}");
            }
            Err(error) => {
                if let Some(earlier) = failure.replace(error.into()) {
                    let _ = writeln!(std::io::stderr(), "brisk: {earlier}");
                }
            }
        }
    }
    failure.map_or(Ok(0), Err)
}
