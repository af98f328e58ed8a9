//! The runtime with defences that tests switch off.

use std::process::ExitCode;

fn main() -> ExitCode {
    weakened::run(std::env::args_os().skip(1).collect())
}
