//! `run`: create, start, and in the foreground wait and delete.

use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::cli::flags::Flag;
use crate::cli::{Call, create};
use crate::container;
use crate::error::{Context, Error, Result};
use crate::process::Console;
use crate::spec;
use crate::state::{Directory, State};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("bundle", Some('b')),
    Flag::value("console-socket", None),
    Flag::value("pid-file", None),
    Flag::switch("detach", Some('d')),
    Flag::switch("keep", None),
    Flag::switch("no-subreaper", None),
    Flag::switch("no-pivot", None),
    Flag::switch("no-new-keyring", None),
    Flag::value("preserve-fds", None),
];

pub(crate) fn run(call: &Call) -> Result<u8> {
    container::seal(&[&create::config(&call.parsed)])?;
    let parsed = &call.parsed;
    let root = &call.global.root;
    let detach = parsed.is_on("detach");
    let mut console = create::console(parsed)?;
    let mut terminal = None;
    if console.is_none() && !detach && wants_terminal(parsed.value("bundle").unwrap_or("."))? {
        let (ours, theirs) = UnixStream::pair().doing(|| "make a socketpair")?;
        console = Some(Console::over(theirs));
        terminal = Some(ours);
    }
    let arguments = create::arguments(call, console)?;
    let id = arguments.id.clone();
    let (state, child) = container::create(arguments)?;
    if let Err(error) = container::start(root, &id) {
        let _ = container::delete(root, &id, true);
        return Err(error);
    }
    if detach {
        return Ok(0);
    }
    let code = match &terminal {
        Some(socket) => container::relay(&child, socket)?,
        None => container::wait_for(&child)?,
    };
    if !parsed.is_on("keep") {
        remove(root, &state)?;
    }
    Ok(code)
}

fn wants_terminal(bundle: &str) -> Result<bool> {
    let (_, spec) = spec::load(Path::new(bundle))?;
    Ok(spec.process.is_some_and(|process| process.terminal))
}

/// Another command may have been quicker.
fn remove(root: &Path, state: &State) -> Result<()> {
    match Directory::open(root, &state.id) {
        Ok(directory) => container::destroy(&directory, state),
        Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
