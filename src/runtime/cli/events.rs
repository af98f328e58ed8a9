//! `events`: statistics and out-of-memory kills, one JSON document a line.

use std::io::Write;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cgroup::{Happening, Statistics, Watch};
use crate::cli::Call;
use crate::cli::flags::Flag;
use crate::error::{Error, Result};
use crate::state::{Directory, State, Status};

pub(crate) const FLAGS: &[Flag] = &[Flag::value("interval", None), Flag::switch("stats", None)];

/// Between two readings where the caller says nothing.
const INTERVAL: &str = "5s";

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Statistics>,
}

pub(crate) fn run(call: &Call) -> Result<u8> {
    let text = call.parsed.value("interval").unwrap_or(INTERVAL);
    let interval = parse_duration(text).filter(|interval| !interval.is_zero());
    let interval = interval.ok_or_else(|| {
        Error::Usage(format!(
            "--interval: {text:?} is no duration above 0, like 500ms or 5s"
        ))
    })?;
    // Not locked: this goes on while others act on the container.
    let directory = Directory::read(&call.global.root, call.parsed.id()?)?;
    let state = directory.state()?;
    let status = directory.status(&state);
    if status == Status::Stopped {
        return Err(Error::WrongState {
            verb: "read events of",
            status: status.as_str(),
        });
    }
    if call.parsed.is_on("stats") {
        tell(&state, "stats", Some(state.cgroup.statistics()))?;
        return Ok(0);
    }
    follow(&directory, &state, interval)
}

fn follow(directory: &Directory, state: &State, interval: Duration) -> Result<u8> {
    let mut watch = Watch::new(&state.cgroup)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let told = match watch.wait(left)? {
            Happening::End => return Ok(0),
            Happening::OutOfMemory => tell(state, "oom", None)?,
            Happening::Nothing => {
                next = Instant::now() + interval;
                if directory.status(state) == Status::Stopped {
                    return Ok(0);
                }
                tell(state, "stats", Some(state.cgroup.statistics()))?
            }
        };
        if !told {
            return Ok(0);
        }
    }
}

/// False when the reader has gone away.
fn tell(state: &State, kind: &'static str, data: Option<Statistics>) -> Result<bool> {
    let event = Event {
        kind,
        id: &state.id,
        data,
    };
    let mut line = serde_json::to_string(&event)
        .map_err(|error| Error::Usage(format!("encode an event: {error}")))?;
    line.push('\n');
    let mut output = std::io::stdout().lock();
    let written = output
        .write_all(line.as_bytes())
        .and_then(|()| output.flush());
    Ok(written.is_ok())
}

/// `1m30s`, `500ms`, `0.5s`: numbers with units, in Go's writing.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = &rest[unit..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("100ms", 100),
            ("1m30s", 90_000),
            ("0.5s", 500),
            ("1h", 3_600_000),
            ("2000us", 2),
        ] {
            let parsed = parse_duration(text).unwrap();
            assert_eq!(parsed, Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["5", "s", "5x", "-5s", "1s2", "5 s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
