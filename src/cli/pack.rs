//! `brisk pack push` and `brisk pack inspect`.

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::cli::error::{CliError, because};
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::ImageOptions;
use crate::cli::output::{line, print_json, print_table};
use crate::cli::service::ask;
use crate::daemon::config::Config;
use crate::daemon::control::{Outcome, Program, Request};
use crate::daemon::query::Queries;
use brisk_image::ImageError;
use brisk_image::pack::{self, PackPlace};
use index_format::startup::PackTable;

/// Packs: what a program reads at its start, attached to its image
#[derive(Subcommand, Clone, Debug)]
pub enum PackCommand {
    /// Make the pack of a recorded start and attach it to the image in its repository
    Push(PushArguments),
    /// Tell which packs are attached to an image, and what they hold
    Inspect(InspectArguments),
}

/// What `pack push` takes.
#[derive(Args, Clone, Debug)]
pub struct PushArguments {
    #[command(flatten)]
    image: ImageOptions,
    /// Replace the image's entrypoint, as in `brisk run`
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// The image
    #[arg(value_name = "REF")]
    reference: String,
    /// Program and arguments, as in `brisk run`
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

/// What `pack inspect` takes.
#[derive(Args, Clone, Debug)]
pub struct InspectArguments {
    #[command(flatten)]
    image: ImageOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The image
    #[arg(value_name = "REF")]
    reference: String,
}

/// An attached pack.
#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    place: PackPlace,
    /// Why its table cannot be read.
    problem: Option<String>,
    layers: usize,
    frames: usize,
    leaves: u64,
}

/// Carries out one of the verbs.
pub fn run(global: &GlobalOptions, command: PackCommand) -> Result<(), CliError> {
    match command {
        PackCommand::Push(arguments) => push(global, arguments),
        PackCommand::Inspect(arguments) => inspect(global, &arguments),
    }
}

fn push(global: &GlobalOptions, arguments: PushArguments) -> Result<(), CliError> {
    let request = Request::PushPack {
        image: arguments.image.request(global, &arguments.reference)?,
        program: Program {
            entrypoint: arguments.entrypoint,
            command: arguments.command,
            ..Program::default()
        },
    };
    let Outcome::PackPushed(pushed) = ask(global, &request)? else {
        return Err(CliError::new("the service answered something else"));
    };
    let what = match &pushed.artifact {
        Some(artifact) => format!("attached {artifact} to"),
        None => "already attached to".to_owned(),
    };
    line(format_args!(
        "{what} {}: {} leaves, {} bytes",
        pushed.reference, pushed.leaves, pushed.size
    ))
}

fn inspect(global: &GlobalOptions, arguments: &InspectArguments) -> Result<(), CliError> {
    let config = Config::load(global.config.as_deref()).map_err(because)?;
    let request = arguments.image.request(global, &arguments.reference)?;
    let query = Queries::new(config).query(&request, true)?;
    let failed = |error: ImageError| CliError {
        hint: error.hint(),
        ..because(error)
    };
    let runtime = tokio::runtime::Runtime::new().map_err(because)?;
    let packs = runtime.block_on(async {
        let mut packs = Vec::new();
        for place in pack::attached(&query).await.map_err(failed)? {
            let table = read_table(&query, &place).await;
            let (table, problem) = match table {
                Ok(table) => (Some(table), None),
                Err(problem) => (None, Some(problem)),
            };
            packs.push(Inspected {
                place,
                problem,
                layers: table.as_ref().map_or(0, |table| table.layers.len()),
                frames: table.as_ref().map_or(0, |table| table.frames.len()),
                leaves: table.as_ref().map_or(0, PackTable::leaves),
            });
        }
        Ok::<_, CliError>(packs)
    })?;
    if arguments.json {
        return print_json(&packs);
    }
    let rows = packs.iter().map(|pack| {
        vec![
            pack.place
                .command
                .chars()
                .take("sha256:".len() + 12)
                .collect(),
            HumanBytes(pack.place.size).to_string(),
            pack.layers.to_string(),
            pack.frames.to_string(),
            pack.leaves.to_string(),
            pack.problem.clone().unwrap_or_default(),
        ]
    });
    print_table(
        &["COMMAND", "SIZE", "LAYERS", "FRAMES", "LEAVES", "PROBLEM"],
        rows,
    )
}

async fn read_table(query: &brisk_image::Query, place: &PackPlace) -> Result<PackTable, String> {
    let blob = place.blob().ok_or("its blob has no digest")?;
    let bytes = query.source.blob_range(blob, 0..place.table).await;
    let bytes = bytes.map_err(|error| error.to_string())?;
    let table = PackTable::decode(&bytes).map_err(|error| error.to_string())?;
    match table.size() == place.size {
        true => Ok(table),
        false => Err(format!("its table speaks of {} bytes", table.size())),
    }
}
