//! `ps`.

use std::process::Command;

use crate::cli::flags::{Flag, Parsed};
use crate::cli::{Call, print};
use crate::error::{Context, Error, Result};
use crate::state::Directory;

pub(crate) const FLAGS: &[Flag] = &[Flag::value("format", Some('f'))];

pub(crate) fn run(call: &Call) -> Result<u8> {
    let directory = Directory::open(&call.global.root, call.parsed.first()?)?;
    let mut processes = directory.state()?.cgroup.processes()?;
    processes.sort_unstable();
    let (format, options) = options(&call.parsed)?;
    match format {
        Some("json") => {
            let numbers: Vec<String> = processes.iter().map(i32::to_string).collect();
            print(&format!("[{}]\n", numbers.join(",")))
        }
        None | Some("table") => print(&table(&options, &processes)?),
        Some(other) => Err(Error::Usage(format!("--format: {other:?}: table or json"))),
    }
}

/// The format and the options of ps(1), which follow the name. Of these `--format` is ours: ps(1)
/// would not show what is looked for with it.
fn options(parsed: &Parsed) -> Result<(Option<&str>, Vec<String>)> {
    let mut format = parsed.value("format");
    let mut options = Vec::new();
    let mut words = parsed.positional.iter().skip(1);
    while let Some(word) = words.next() {
        if word == "--format" {
            let value = words.next().map(String::as_str);
            format =
                Some(value.ok_or_else(|| Error::Usage(format!("flag needs a value: {word}")))?);
        } else if let Some(value) = word.strip_prefix("--format=") {
            format = Some(value);
        } else {
            options.push(word.clone());
        }
    }
    Ok((format, options))
}

/// The lines of ps(1) that are about `processes`.
fn table(options: &[String], processes: &[i32]) -> Result<String> {
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    } else {
        command.args(options);
    }
    let output = command.output().doing(|| "run ps")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr)
            .trim_end()
            .to_owned();
        return Err(Error::Usage(format!("ps: {words}")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::Usage("ps shows no PID column with these options".to_owned()))?;
    let is_ours = |line: &&str| {
        let number = line
            .split_whitespace()
            .nth(column)
            .and_then(|word| word.parse().ok());
        number.is_some_and(|number: i32| processes.contains(&number))
    };
    let ours: String = lines
        .filter(is_ours)
        .map(|line| format!("{line}\n"))
        .collect();
    Ok(format!("{title}\n{ours}"))
}
