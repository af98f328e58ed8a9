//! An OCI runtime with the command line of runc.

mod cgroup;
mod cli;
mod container;
mod defence;
mod error;
mod fault;
mod log;
mod network;
mod process;
mod procfs;
mod rootfs;
mod spec;
mod state;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs one command line, without the program's name. It may fork; the child never returns from
/// here.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    cli::run(arguments)
}
