//! `spec`: a `config.json` to begin with.

use std::io::Write;
use std::path::Path;

use crate::cli::Call;
use crate::cli::flags::Flag;
use crate::error::{Context, Error, Result};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("bundle", Some('b')),
    Flag::switch("rootless", None),
];

const TEMPLATE: &str = include_str!("spec.json");

pub(crate) fn run(call: &Call) -> Result<u8> {
    call.parsed.at_most(0)?;
    if call.parsed.is_on("rootless") {
        return Err(Error::unsupported(
            "--rootless",
            "containers are made by root only",
        ));
    }
    let path = Path::new(call.parsed.value("bundle").unwrap_or(".")).join("config.json");
    let mut file = std::fs::File::create_new(&path).doing(|| format!("make {}", path.display()))?;
    file.write_all(TEMPLATE.as_bytes())
        .doing(|| format!("write {}", path.display()))?;
    Ok(0)
}
