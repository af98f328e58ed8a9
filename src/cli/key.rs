//! `brisk key …`: keys that sign indexes.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::cli::error::{CliError, because};
use crate::cli::output::line;
use brisk_image::sign::SigningKey;

/// Keys that sign indexes
#[derive(Subcommand, Clone, Debug)]
pub enum KeyCommand {
    /// Make a key: FILE with the private one, FILE.pub with the public one
    Generate(GenerateArguments),
}

/// What `key generate` takes.
#[derive(Args, Clone, Debug)]
pub struct GenerateArguments {
    /// Where the private key is written; a file that is there is kept
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Carries out one of the verbs.
pub fn run(command: &KeyCommand) -> Result<(), CliError> {
    let KeyCommand::Generate(arguments) = command;
    let private = &arguments.file;
    let public = PathBuf::from(format!("{}.pub", private.display()));
    let (key, pem) = SigningKey::generate().map_err(because)?;
    write_new(private, 0o600, &pem)?;
    if let Err(error) = write_new(&public, 0o644, &key.public().to_pem()) {
        // One without the other is of no use.
        let _ = std::fs::remove_file(private);
        return Err(error);
    }
    line(format_args!("{} {}", key.public().id(), public.display()))
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), CliError> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| {
        let failed = CliError::new(format!("writing {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                failed.hint("name another file; keys are never replaced")
            }
            _ => failed,
        }
    })
}
