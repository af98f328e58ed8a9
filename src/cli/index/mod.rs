//! `brisk index …`: build, push, inspect, verify, ls, cat.

mod build;
mod layer;
mod passage;
mod push;
mod read;

use clap::Subcommand;

use crate::cli::error::CliError;
use crate::cli::global::GlobalOptions;

/// Indexes of layers
#[derive(Subcommand, Clone, Debug)]
pub enum IndexCommand {
    /// Build the index of a layer file, or of every layer of an image
    Build(build::BuildArguments),
    /// Build the indexes of an image, of every platform, and attach them to it
    Push(push::PushArguments),
    /// Tell what an index file says of itself
    Inspect(read::InspectArguments),
    /// Check an index file, and with its layer also that it tells the truth
    Verify(read::VerifyArguments),
    /// List the tree of an index file
    Ls(read::ListArguments),
    /// Print a file of a layer by random access through its index
    Cat(read::CatArguments),
}

/// Carries out one of the verbs.
pub fn run(global: &GlobalOptions, command: &IndexCommand) -> Result<(), CliError> {
    match command {
        IndexCommand::Build(arguments) => build::build(global, arguments),
        IndexCommand::Push(arguments) => push::push(global, arguments),
        IndexCommand::Inspect(arguments) => read::inspect(arguments),
        IndexCommand::Verify(arguments) => read::verify(global, arguments),
        IndexCommand::Ls(arguments) => read::list(arguments),
        IndexCommand::Cat(arguments) => read::cat(arguments),
    }
}
