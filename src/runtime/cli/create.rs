//! `create`.

use std::path::{Path, PathBuf};

use crate::cli::Call;
use crate::cli::flags::{Flag, Parsed};
use crate::container;
use crate::error::Result;
use crate::process::Console;

pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("bundle", Some('b')),
    Flag::value("console-socket", None),
    Flag::value("pid-file", None),
    Flag::switch("no-pivot", None),
    Flag::switch("no-new-keyring", None),
    Flag::value("preserve-fds", None),
];

pub(crate) fn run(call: &Call) -> Result<u8> {
    container::seal(&[&config(&call.parsed)])?;
    let console = console(&call.parsed)?;
    container::create(arguments(call, console)?)?;
    Ok(0)
}

/// The specification that the container is made from.
pub(crate) fn config(parsed: &Parsed) -> PathBuf {
    Path::new(parsed.value("bundle").unwrap_or(".")).join("config.json")
}

/// Connects to `--console-socket`.
pub(crate) fn console(parsed: &Parsed) -> Result<Option<Console>> {
    parsed
        .value("console-socket")
        .map(|path| Console::connect(path.as_ref()))
        .transpose()
}

/// What `create` and `run` have in common.
pub(crate) fn arguments(call: &Call, console: Option<Console>) -> Result<container::Create> {
    let parsed = &call.parsed;
    Ok(container::Create {
        root: call.global.root.clone(),
        id: parsed.id()?.to_owned(),
        bundle: PathBuf::from(parsed.value("bundle").unwrap_or(".")),
        pid_file: parsed.value("pid-file").map(PathBuf::from),
        console,
        systemd: call.global.systemd,
        pivot: !parsed.is_on("no-pivot"),
        new_keyring: !parsed.is_on("no-new-keyring"),
        preserve_fds: parsed.number("preserve-fds")?.unwrap_or(0),
    })
}
