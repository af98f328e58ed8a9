//! `update`.

use std::io::Read;
use std::path::Path;

use crate::cli::Call;
use crate::cli::flags::Flag;
use crate::error::{Context, Error, Result};
use crate::spec::{self, BlockIo, IntelRdt, Pids, Resources};
use crate::state::{Directory, State, Status};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("resources", Some('r')),
    Flag::value("cpu-period", None),
    Flag::value("cpu-quota", None),
    Flag::value("cpu-burst", None),
    Flag::value("cpu-share", None),
    Flag::value("cpu-rt-period", None),
    Flag::value("cpu-rt-runtime", None),
    Flag::value("cpu-idle", None),
    Flag::value("blkio-weight", None),
    Flag::value("l3-cache-schema", None),
    Flag::value("mem-bw-schema", None),
    // The kernel has these limits no more; what they say is passed over.
    Flag::value("kernel-memory", None),
    Flag::value("kernel-memory-tcp", None),
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
    let wanted = resources(call)?;
    state.cgroup.change(&wanted)?;
    change_shares(&state, call)?;
    // Callers pass on the container's own rules with every change; others may have added to
    // them meanwhile, so that what has not changed is not applied again.
    if !wanted.devices.is_empty() {
        let linux = directory.spec()?.linux.unwrap_or_default();
        if linux.resources.devices != wanted.devices {
            state.cgroup.limit_devices(&wanted)?;
        }
    }
    Ok(0)
}

/// Shares of caches and memory bandwidth, which only flags change.
fn change_shares(state: &State, call: &Call) -> Result<()> {
    let text = |name| call.parsed.value(name).unwrap_or_default().to_owned();
    let wanted = IntelRdt {
        l3_cache_schema: text("l3-cache-schema"),
        mem_bw_schema: text("mem-bw-schema"),
        ..IntelRdt::default()
    };
    if wanted.l3_cache_schema.is_empty() && wanted.mem_bw_schema.is_empty() {
        return Ok(());
    }
    match &state.cgroup.rdt {
        Some(group) => group.change(&wanted),
        None => Err(Error::unsupported(
            "--l3-cache-schema, --mem-bw-schema",
            "the container was made without linux.intelRdt",
        )),
    }
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
    let size = |name| parsed.value(name).map(|text| bytes(name, text)).transpose();
    memory.limit = size("memory")?;
    memory.reservation = size("memory-reservation")?;
    memory.swap = size("memory-swap")?;
    let cpu = resources.cpu.get_or_insert_default();
    cpu.period = parsed.number("cpu-period")?;
    cpu.quota = parsed.number("cpu-quota")?;
    cpu.burst = parsed.number("cpu-burst")?;
    cpu.shares = parsed.number("cpu-share")?;
    cpu.realtime_period = parsed.number("cpu-rt-period")?;
    cpu.realtime_runtime = parsed.number("cpu-rt-runtime")?;
    cpu.idle = parsed.number("cpu-idle")?;
    cpu.cpus = parsed.value("cpuset-cpus").unwrap_or_default().to_owned();
    cpu.mems = parsed.value("cpuset-mems").unwrap_or_default().to_owned();
    resources.block_io = parsed.number("blkio-weight")?.map(|weight| BlockIo {
        weight: Some(weight),
        ..BlockIo::default()
    });
    resources.pids = parsed
        .number("pids-limit")?
        .map(|limit| Pids { limit: Some(limit) });
    Ok(resources)
}

/// A number of bytes: `-1`, `1000`, `64M`, `1.5GiB`; every unit is a power of 1024.
fn bytes(flag: &str, text: &str) -> Result<i64> {
    let wrong = || {
        Error::Usage(format!(
            "--{flag}: {text:?} is no size, like 1000, 64M or -1"
        ))
    };
    if text == "-1" {
        return Ok(-1);
    }
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let unit = unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let factor = match unit {
        "" => 1_u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return Err(wrong()),
    };
    let whole: std::result::Result<u64, _> = text[..digits].parse();
    let product = match whole {
        Ok(number) => number.checked_mul(factor).ok_or_else(wrong)?,
        // A fraction of a unit; what does not fit is cut off below.
        Err(_) => (text[..digits].parse::<f64>().map_err(|_| wrong())? * factor as f64) as u64,
    };
    i64::try_from(product).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, size) in [
            ("-1", -1),
            ("0", 0),
            ("1000", 1000),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2 k", 2048),
            ("7b", 7),
        ] {
            assert_eq!(bytes("memory", text).unwrap(), size, "{text}");
        }
        for text in [
            "",
            "M",
            "-2",
            "1x",
            "1.2.3",
            "99999999999999999999",
            "9000000P",
        ] {
            let words = bytes("memory", text).unwrap_err().to_string();
            assert!(words.contains("--memory"), "{words}");
        }
    }
}
