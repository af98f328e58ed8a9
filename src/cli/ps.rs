//! `brisk ps`: the containers and how they are.

use super::error::CliError;
use super::global::GlobalOptions;
use super::table::render;
use brisk_container::store::{Container, Record, Status, unix_ms};
use brisk_container::timestamp::{rfc3339, span_in_words};
use brisk_container::{ContainerError, Store};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Characters of a command that the table shows.
const COMMAND_WIDTH: usize = 30;

/// Options of `brisk ps`.
#[derive(Clone, Debug, clap::Args)]
pub struct PsArguments {
    /// Also those that have ended
    #[arg(short, long)]
    pub all: bool,

    /// Ids alone
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,

    /// A JSON array with everything
    #[arg(long)]
    pub json: bool,

    /// Do not shorten ids and commands
    #[arg(long)]
    pub no_trunc: bool,
}

/// One container as other programs see it.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    image: String,
    manifest_digest: Option<String>,
    command: Vec<String>,
    created: String,
    state: &'static str,
    exit_code: Option<u8>,
    pid: Option<i32>,
    labels: BTreeMap<String, String>,
    #[serde(skip)]
    created_words: String,
    #[serde(skip)]
    status_words: String,
}

/// Lists the containers.
pub fn run(global: &GlobalOptions, arguments: PsArguments) -> Result<u8, CliError> {
    let store = Store::open(&global.root)?;
    let mut rows = Vec::new();
    for container in store.list()? {
        match row(&container) {
            Ok((row, status)) => {
                if arguments.all || !matches!(status, Status::Exited { .. }) {
                    rows.push(row);
                }
            }
            // It was removed while we looked.
            Err(_) if !container.directory.exists() => {}
            Err(error) => tracing::warn!(container = container.id.short(), "{error}"),
        }
    }
    let text = if arguments.json {
        let json = serde_json::to_string_pretty(&rows).map_err(anyhow::Error::from)?;
        format!("{json}\n")
    } else if arguments.quiet {
        rows.iter()
            .map(|row| format!("{}\n", identifier(row, &arguments)))
            .collect()
    } else {
        table(&rows, &arguments)
    };
    // A reader that has gone wants no more.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(0)
}

fn identifier<'a>(row: &'a Row, arguments: &PsArguments) -> &'a str {
    if arguments.no_trunc {
        &row.id
    } else {
        &row.id[..12]
    }
}

fn table(rows: &[Row], arguments: &PsArguments) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                identifier(row, arguments).to_owned(),
                row.image.clone(),
                command_words(&row.command, arguments.no_trunc),
                row.created_words.clone(),
                row.status_words.clone(),
                row.name.clone(),
            ]
        })
        .collect();
    render(
        &[
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "NAME",
        ],
        &cells,
    )
}

fn command_words(command: &[String], whole: bool) -> String {
    // Control characters of a hostile image must not reach the terminal.
    let text: String = command
        .join(" ")
        .chars()
        .flat_map(char::escape_debug)
        .collect();
    if whole || text.chars().count() <= COMMAND_WIDTH {
        return text;
    }
    text.chars()
        .take(COMMAND_WIDTH - 1)
        .chain(std::iter::once('…'))
        .collect()
}

fn row(container: &Container) -> Result<(Row, Status), ContainerError> {
    let record: Record = container.record()?;
    let status = container.status()?;
    let state = container.state().ok();
    let ago = |since: u64| span_in_words(unix_ms().saturating_sub(since) / 1000);
    let started = state.as_ref().and_then(|state| state.started_unix_ms);
    let finished = state.as_ref().and_then(|state| state.finished_unix_ms);
    let status_words = match (status, started, finished) {
        (Status::Creating, ..) => "Creating".to_owned(),
        (Status::Running, Some(started), _) => format!("Up {}", ago(started)),
        (Status::Running, None, _) => "Up".to_owned(),
        (Status::Exited { code: Some(code) }, _, Some(finished)) => {
            format!("Exited ({code}) {} ago", ago(finished))
        }
        (Status::Exited { code: Some(code) }, ..) => format!("Exited ({code})"),
        (Status::Exited { code: None }, ..) => "Exited (unknown)".to_owned(),
    };
    let row = Row {
        id: record.id.to_string(),
        name: record.name,
        image: record.image,
        manifest_digest: record.manifest_digest,
        command: record.command,
        created: rfc3339(UNIX_EPOCH + Duration::from_millis(record.created_unix_ms)),
        state: status.word(),
        exit_code: match status {
            Status::Exited { code } => code,
            _ => None,
        },
        pid: state
            .and_then(|state| state.init)
            .filter(|_| status.is_running())
            .map(|init| init.pid),
        labels: record.options.labels,
        created_words: format!("{} ago", ago(record.created_unix_ms)),
        status_words,
    };
    Ok((row, status))
}
