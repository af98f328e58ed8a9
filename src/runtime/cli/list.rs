//! `list`.

use crate::cli::flags::Flag;
use crate::cli::{Call, print};
use crate::error::{Error, Result};
use crate::state::{Directory, list};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("format", Some('f')),
    Flag::switch("quiet", Some('q')),
];

pub(crate) fn run(call: &Call) -> Result<u8> {
    call.parsed.at_most(0)?;
    let root = &call.global.root;
    let names = list(root)?;
    if call.parsed.is_on("quiet") {
        return print(
            &names
                .iter()
                .map(|name| format!("{name}\n"))
                .collect::<String>(),
        );
    }
    let mut found = Vec::new();
    for name in names {
        // One that is deleted meanwhile is not there.
        let Ok(directory) = Directory::read(root, &name) else {
            continue;
        };
        let Ok(state) = directory.state() else {
            continue;
        };
        let status = directory.status(&state);
        found.push((state, status));
    }
    match call.parsed.value("format") {
        Some("json") => {
            let reports: Vec<_> = found
                .iter()
                .map(|(state, status)| state.report(*status))
                .collect();
            let text = serde_json::to_string(&reports)
                .map_err(|error| Error::invalid("state", error.to_string()))?;
            print(&text)
        }
        None | Some("table") => {
            let title = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
            let mut rows = vec![title.map(str::to_owned)];
            for (state, status) in &found {
                let pid = if state.report(*status).has_process() {
                    state.pid
                } else {
                    0
                };
                rows.push([
                    state.id.clone(),
                    pid.to_string(),
                    status.as_str().to_owned(),
                    state.bundle.display().to_string(),
                    state.created.clone(),
                    "root".to_owned(),
                ]);
            }
            print(&aligned(&rows))
        }
        Some(other) => Err(Error::Usage(format!("--format: {other:?}: table or json"))),
    }
}

/// Columns as wide as their widest entry and some, at least as runc's.
fn aligned(rows: &[[String; 6]]) -> String {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].len());
        widths.max().unwrap_or(0).max(9) + 3
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let row = |first: &str| [first, "1", "running", "/b", "c", "o"].map(str::to_owned);
        let text = aligned(&[row("a"), row("a-much-longer-name")]);
        let at: Vec<_> = text.lines().map(|line| line.find("running")).collect();
        assert_eq!(at[0], at[1]);
    }
}
