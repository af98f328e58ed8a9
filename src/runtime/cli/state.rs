//! `state`.

use crate::cli::{Call, print};
use crate::error::{Error, Result};
use crate::state::Directory;

pub(crate) fn run(call: &Call) -> Result<u8> {
    let directory = Directory::read(&call.global.root, call.parsed.id()?)?;
    let state = directory.state()?;
    let report = state.report(directory.status(&state));
    let text = serde_json::to_string_pretty(&report)
        .map_err(|error| Error::invalid("state", error.to_string()))?;
    print(&format!("{text}\n"))
}
