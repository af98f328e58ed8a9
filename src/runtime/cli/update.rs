//! `update`.

use std::io::Read;
use std::path::Path;

use crate::cli::Call;
use crate::cli::flags::Flag;
use crate::error::{Context, Error, Result};
use crate::spec::{self, Pids, Resources};
use crate::state::{Directory, Status};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("resources", Some('r')),
    Flag::value("cpu-period", None),
    Flag::value("cpu-quota", None),
    Flag::value("cpu-share", None),
    Flag::value("cpuset-cpus", None),
    Flag::value("cpuset-mems", None),
    Flag::value("memory", None),
    Flag::value("memory-reservation", None),
    Flag::value("memory-swap", None),
    Flag::value("pids-limit", None),
];

/// Bytes of the largest document read from standard input.
const INPUT_LIMIT: u64 = 1 << 20;

pub(crate) fn run(call: &Call) -> Result<u8> {
    let directory = Directory::open(&call.global.root, call.parsed.id()?)?;
    let state = directory.state()?;
    let status = directory.status(&state);
    if status == Status::Stopped {
        return Err(Error::WrongState {
            verb: "update",
            status: status.as_str(),
        });
    }
    state.cgroup.limit(&resources(call)?)?;
    Ok(0)
}

/// The document where one is given, else the flags.
fn resources(call: &Call) -> Result<Resources> {
    let parsed = &call.parsed;
    if let Some(path) = parsed.value("resources") {
        let bytes = if path == "-" {
            let mut bytes = Vec::new();
            let input = std::io::stdin().lock();
            input
                .take(INPUT_LIMIT)
                .read_to_end(&mut bytes)
                .doing(|| "read standard input")?;
            bytes
        } else {
            spec::read_limited(Path::new(path))?
        };
        return spec::parse(Path::new(path), &bytes);
    }
    let mut resources = Resources::default();
    let memory = resources.memory.get_or_insert_default();
    memory.limit = parsed.number("memory")?;
    memory.reservation = parsed.number("memory-reservation")?;
    memory.swap = parsed.number("memory-swap")?;
    let cpu = resources.cpu.get_or_insert_default();
    cpu.period = parsed.number("cpu-period")?;
    cpu.quota = parsed.number("cpu-quota")?;
    cpu.shares = parsed.number("cpu-share")?;
    cpu.cpus = parsed.value("cpuset-cpus").unwrap_or_default().to_owned();
    cpu.mems = parsed.value("cpuset-mems").unwrap_or_default().to_owned();
    resources.pids = parsed
        .number("pids-limit")?
        .map(|limit| Pids { limit: Some(limit) });
    Ok(resources)
}
