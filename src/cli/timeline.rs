//! `brisk run --timeline`: when the parts of a start were done, and what was fetched until the
//! program wrote something.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::HumanBytes;
use serde::Serialize;

use crate::cli::global::GlobalOptions;
use crate::cli::service::client;
use crate::daemon::control::{Outcome, Request, StartTimeline};

/// How a timeline is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object on one line.
    Json,
}

/// A start as it is printed; times are microseconds since the command began.
#[derive(Clone, Debug, Serialize)]
struct Printed<'a> {
    container: &'a str,
    first_exec_us: u64,
    first_output_us: Option<u64>,
    #[serde(flatten)]
    service: Option<StartTimeline>,
}

/// What was known when the program wrote something first.
#[derive(Clone, Debug, Default)]
struct FirstOutput {
    at: Option<Duration>,
    service: Option<StartTimeline>,
}

/// Times a start.
#[derive(Clone)]
pub struct Timeline {
    global: GlobalOptions,
    format: Format,
    began: Instant,
    container: String,
    first_exec: Duration,
    first_output: Arc<Mutex<FirstOutput>>,
}

impl Timeline {
    /// The program of the container has been started, for a command that began at `began`.
    pub fn started(
        global: &GlobalOptions,
        format: Format,
        began: Instant,
        container: &str,
    ) -> Timeline {
        Timeline {
            global: global.clone(),
            format,
            began,
            container: container.to_owned(),
            first_exec: began.elapsed(),
            first_output: Arc::default(),
        }
    }

    /// The program has written something.
    pub fn first_output(&self) {
        let at = Some(self.began.elapsed());
        let service = self.ask();
        let mut first = self
            .first_output
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *first = FirstOutput { at, service };
    }

    fn ask(&self) -> Option<StartTimeline> {
        let container = self.container.clone();
        let client = client(&self.global).ok()?;
        match client.ask(&Request::Timeline { container }, |_| {}) {
            Ok(Outcome::Timeline(timeline)) => Some(*timeline),
            _ => None,
        }
    }

    /// Prints it on stderr. A program that wrote nothing is told of as it was at its end.
    pub fn print(&self) {
        let first = self
            .first_output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let printed = Printed {
            container: &self.container,
            first_exec_us: micros(self.first_exec),
            first_output_us: first.at.map(micros),
            service: first.service.or_else(|| self.ask()),
        };
        let text = match self.format {
            Format::Text => text(&printed),
            Format::Json => serde_json::to_string(&printed).unwrap_or_default(),
        };
        // Nobody may be reading.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

fn text(printed: &Printed<'_>) -> String {
    let seconds = |us: u64| format!("{:.3} s", us as f64 / 1e6);
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push(format!("{name:<13} {value}"));
    if let Some(service) = &printed.service {
        line("resolve", seconds(service.resolve_us));
        line("index", seconds(service.index_us));
        line("mount", seconds(service.mount_us));
    }
    line(
        "first exec",
        format!("at {}", seconds(printed.first_exec_us)),
    );
    match printed.first_output_us {
        Some(us) => line("first output", format!("at {}", seconds(us))),
        None => line("first output", "none".to_owned()),
    }
    let Some(service) = &printed.service else {
        line("fetched", "unknown: the service does not answer".to_owned());
        return lines.join("\n");
    };
    for cause in &service.causes {
        let (bytes, requests) = (HumanBytes(cause.bytes), cause.requests);
        line(&cause.cause, format!("{bytes} in {requests} requests"));
    }
    line("wasted", HumanBytes(service.wasted_bytes).to_string());
    let reads = service.missing_reads;
    line(
        "waited",
        format!("{} in {reads} reads", seconds(service.stalled_us)),
    );
    line("for a turn", seconds(service.queue_us));
    line("for bytes", seconds(service.network_us));
    line("for decoding", seconds(service.decode_us));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::control::CauseTimeline;

    fn printed() -> Printed<'static> {
        Printed {
            container: "c",
            first_exec_us: 1_500_000,
            first_output_us: Some(2_250_000),
            service: Some(StartTimeline {
                resolve_us: 100_000,
                causes: vec![CauseTimeline {
                    cause: "demand".to_owned(),
                    bytes: 2048,
                    requests: 3,
                }],
                ..StartTimeline::default()
            }),
        }
    }

    #[test]
    fn people_read_lines() {
        let text = text(&printed());
        for wanted in [
            "resolve       0.100 s",
            "first exec    at 1.500 s",
            "first output  at 2.250 s",
            "demand        2.00 KiB in 3 requests",
        ] {
            assert!(text.lines().any(|line| line == wanted), "{text}");
        }
    }

    #[test]
    fn programs_read_one_object() {
        let value = serde_json::to_value(printed()).unwrap();
        assert_eq!(value["first_output_us"], 2_250_000);
        assert_eq!(value["resolve_us"], 100_000);
        assert_eq!(value["causes"][0]["requests"], 3);
    }
}
