//! `brisk record`: runs a program on a mount of its own and tells what was recorded.

use indicatif::HumanBytes;

use super::error::CliError;
use super::global::GlobalOptions;
use super::image_request::ImageOptions;
use super::output::say;
use super::run::{self, RunArguments};
use super::service::ask;
use crate::daemon::control::{Outcome, Program, Request};
use index_format::LEAF_SIZE;

/// Runs the container to its end, removes it, and says on stderr what its start needs; gives the
/// program's exit code.
///
/// # Errors
/// As [`run::run`]; where nothing was recorded.
pub fn record(global: &GlobalOptions, mut arguments: RunArguments) -> Result<u8, CliError> {
    if arguments.detach {
        return Err(CliError::new("a recording cannot be detached")
            .hint("`brisk run -d` records as well; `brisk record` waits for the end"));
    }
    arguments.rm = true;
    let program = Program {
        entrypoint: arguments.entrypoint.clone(),
        command: arguments.command.clone(),
        ..Program::default()
    };
    let options = ImageOptions {
        platform: arguments.platform.clone(),
        background: arguments.background,
    };
    let image = options.request(global, &arguments.image)?;
    let code = run::start(global, arguments, true)?;
    let request = Request::DescribeStartup { image, program };
    let Outcome::Startup { startup } = ask(global, &request)? else {
        return Err(CliError::new("the service answered something else"));
    };
    let Some(startup) = startup else {
        return Err(CliError::new("the program read nothing of its image")
            .hint("the service's log in the root's run directory says more"));
    };
    say(format_args!(
        "brisk: recorded {} leaves ({}) of {} layers for {}, command {}, {} starts",
        startup.leaves,
        HumanBytes(startup.leaves * LEAF_SIZE),
        startup.layers.len(),
        startup.reference,
        startup.command,
        startup.starts
    ));
    Ok(code)
}
