//! `brisk`: parses the command line and dispatches to one verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(brisk::cli::main())
}
