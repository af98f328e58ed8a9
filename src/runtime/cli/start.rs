//! `start`.

use crate::cli::Call;
use crate::container;
use crate::error::Result;

pub(crate) fn run(call: &Call) -> Result<u8> {
    container::start(&call.global.root, call.parsed.id()?)?;
    Ok(0)
}
