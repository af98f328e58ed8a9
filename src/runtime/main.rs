//! `brisk-runtime`: parses the command line and dispatches to one verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::run(std::env::args_os().skip(1).collect())
}
