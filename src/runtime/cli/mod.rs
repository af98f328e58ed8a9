//! The command line: one file per verb.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod flags;
mod freeze;
mod global;
mod kill;
mod list;
mod ps;
mod refused;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use crate::cli::flags::{Parsed, parse};
use crate::cli::global::Global;
use crate::error::{Error, Result};

/// What a verb runs with.
pub struct Call {
    /// The options before the verb.
    pub global: Global,
    /// What follows it.
    pub parsed: Parsed,
}

/// One verb: name, flags, whether it ends at the second positional argument, behaviour.
struct Verb {
    name: &'static str,
    flags: &'static [flags::Flag],
    /// Positional arguments after which everything is taken as it is (`exec ID COMMAND …`).
    verbatim_after: usize,
    run: fn(&Call) -> Result<u8>,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "create",
        flags: create::FLAGS,
        verbatim_after: usize::MAX,
        run: create::run,
    },
    Verb {
        name: "start",
        flags: &[],
        verbatim_after: usize::MAX,
        run: start::run,
    },
    Verb {
        name: "run",
        flags: run::FLAGS,
        verbatim_after: usize::MAX,
        run: run::run,
    },
    Verb {
        name: "state",
        flags: &[],
        verbatim_after: usize::MAX,
        run: state::run,
    },
    Verb {
        name: "kill",
        flags: kill::FLAGS,
        verbatim_after: usize::MAX,
        run: kill::run,
    },
    Verb {
        name: "delete",
        flags: delete::FLAGS,
        verbatim_after: usize::MAX,
        run: delete::run,
    },
    Verb {
        name: "exec",
        flags: exec::FLAGS,
        verbatim_after: 1,
        run: exec::run,
    },
    Verb {
        name: "list",
        flags: list::FLAGS,
        verbatim_after: usize::MAX,
        run: list::run,
    },
    Verb {
        name: "pause",
        flags: &[],
        verbatim_after: usize::MAX,
        run: freeze::pause,
    },
    Verb {
        name: "resume",
        flags: &[],
        verbatim_after: usize::MAX,
        run: freeze::resume,
    },
    Verb {
        name: "ps",
        flags: ps::FLAGS,
        verbatim_after: 0,
        run: ps::run,
    },
    Verb {
        name: "update",
        flags: update::FLAGS,
        verbatim_after: usize::MAX,
        run: update::run,
    },
    Verb {
        name: "events",
        flags: events::FLAGS,
        verbatim_after: usize::MAX,
        run: events::run,
    },
    Verb {
        name: "checkpoint",
        flags: refused::FLAGS,
        verbatim_after: usize::MAX,
        run: refused::checkpoint,
    },
    Verb {
        name: "restore",
        flags: refused::FLAGS,
        verbatim_after: usize::MAX,
        run: refused::restore,
    },
    Verb {
        name: "spec",
        flags: spec::FLAGS,
        verbatim_after: usize::MAX,
        run: spec::run,
    },
    Verb {
        name: "features",
        flags: &[],
        verbatim_after: usize::MAX,
        run: features::run,
    },
];

/// Parses, runs, reports.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let (global, rest) = match global::parse(arguments) {
        Ok(parsed) => parsed,
        Err(error) => return Global::default().report(&error),
    };
    let outcome = if global.version {
        print(&version())
    } else {
        dispatch(&global, rest)
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => global.report(&error),
    }
}

fn dispatch(global: &Global, mut rest: Vec<String>) -> Result<u8> {
    if global.help || rest.is_empty() {
        return print(&help());
    }
    let name = rest.remove(0);
    if name == "help" {
        return print(&help());
    }
    let verb = VERBS.iter().find(|verb| verb.name == name).ok_or_else(|| {
        Error::Usage(format!(
            "No help topic for '{name}': unknown command; --help lists those there are"
        ))
    })?;
    // Where a command of the container follows, its words are its own.
    let own = if verb.verbatim_after == usize::MAX {
        rest.len()
    } else {
        1
    };
    let mut own = rest.iter().take(own).take_while(|word| *word != "--");
    if own.any(|word| word == "--help" || word == "-h") {
        return print(&flags::describe(&program_name(), verb.name, verb.flags));
    }
    let parsed = parse(verb.flags, rest, verb.verbatim_after)?;
    (verb.run)(&Call {
        global: global.clone(),
        parsed,
    })
}

fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let name = program_name();
    // A build sets it where it knows; callers expect the line.
    let commit = option_env!("BRISK_COMMIT").unwrap_or("unknown");
    format!(
        "{name} version {version}\ncommit: {commit}\nspec: {}\n",
        crate::state::SPEC_VERSION
    )
}

/// The name that the runtime was called by: it stands in for others under theirs.
fn program_name() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&called).file_name();
    name.map_or("brisk-runtime".into(), |name| {
        name.to_string_lossy().into_owned()
    })
}

fn help() -> String {
    let verbs: String = VERBS
        .iter()
        .map(|verb| format!("   {}\n", verb.name))
        .collect();
    let name = program_name();
    let flags = flags::list(global::FLAGS);
    format!(
        "NAME:\n   {name} - Open Container Initiative runtime\n\n\
         USAGE:\n   {name} [global options] command [command options] [arguments...]\n\n\
         COMMANDS:\n{verbs}\nGLOBAL OPTIONS:\n{flags}"
    )
}

/// Writes to standard output. A reader that has gone away is no failure.
pub fn print(text: &str) -> Result<u8> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(0)
}
