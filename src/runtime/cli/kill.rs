//! `kill`.

use crate::cli::Call;
use crate::cli::flags::Flag;
use crate::container;
use crate::error::Result;

pub(crate) const FLAGS: &[Flag] = &[Flag::switch("all", Some('a'))];

pub(crate) fn run(call: &Call) -> Result<u8> {
    let parsed = &call.parsed;
    parsed.at_most(2)?;
    let signal = parsed.positional.get(1).map_or("SIGTERM", String::as_str);
    let signal = container::parse_signal(signal)?;
    container::kill(
        &call.global.root,
        parsed.first()?,
        signal,
        parsed.is_on("all"),
    )?;
    Ok(0)
}
