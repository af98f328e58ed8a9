//! `delete`.

use crate::cli::Call;
use crate::cli::flags::Flag;
use crate::container;
use crate::error::Result;

pub(crate) const FLAGS: &[Flag] = &[Flag::switch("force", Some('f'))];

pub(crate) fn run(call: &Call) -> Result<u8> {
    let parsed = &call.parsed;
    container::delete(&call.global.root, parsed.id()?, parsed.is_on("force"))?;
    Ok(0)
}
