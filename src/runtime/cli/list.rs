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
            let mut text = String::from("ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n");
            for (state, status) in &found {
                let pid = if state.report(*status).has_process() {
                    state.pid
                } else {
                    0
                };
                let bundle = state.bundle.display();
                let (id, status, created) = (&state.id, status.as_str(), &state.created);
                text.push_str(&format!(
                    "{id}\t{pid}\t{status}\t{bundle}\t{created}\troot\n"
                ));
            }
            print(&text)
        }
        Some(other) => Err(Error::Usage(format!("--format: {other:?}: table or json"))),
    }
}
